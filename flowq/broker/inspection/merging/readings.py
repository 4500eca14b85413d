"""Single questions to all shards of a pipeline, and their answers as one. Each raises if a shard does not answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flowq.broker.inspection.edge_stats import EdgeInspection, EdgeStats, RunningMessage
from flowq.broker.inspection.merging.figures import least, merged_throughput, most
from flowq.broker.inspection.pacing_keys import HeldKey, KeyInspection
from flowq.broker.inspection.throughput import Throughput, Throughputs
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs
from flowq.broker.shards.every_shard import ask_every_shard
from flowq.graph.compilation.plan import Plan


async def throughput_of_all_shards(broker: Broker, plan: Plan) -> Mapping[str, Throughput]:
    """The speed of every stage in the last half minute."""
    edges, stages = [edge.name for edge in plan.edges], [stage.name for stage in plan.consumers]

    async def of_one(shard: Broker) -> Mapping[str, Throughput]:
        return await Throughputs(shard).of(plan, await Runs(shard).snapshot(edges, stages))

    found = (await ask_every_shard(broker, of_one)).whole
    return {stage.name: merged_throughput([each[stage.name] for each in found]) for stage in plan.stages}


async def slowest_of_all_shards(
    broker: Broker, edges: Sequence[str], *, limit: int, at_least_seconds: float = 0.5
) -> list[RunningMessage]:
    """The messages that have been running longest, in whichever shard."""

    async def of_one(shard: Broker) -> list[RunningMessage]:
        return await EdgeInspection(shard).slowest(edges, limit=limit, at_least_seconds=at_least_seconds)

    found = (await ask_every_shard(broker, of_one)).whole
    return sorted((message for each in found for message in each), key=lambda message: -message.seconds)[:limit]


async def held_in_all_shards(broker: Broker, stages: Sequence[str]) -> list[HeldKey]:
    """The keys on hold, by stage, those held longest first."""
    return merged_held((await ask_every_shard(broker, lambda shard: KeyInspection(shard).held(stages))).whole, stages)


def merged_held(found: Sequence[Sequence[HeldKey]], stages: Sequence[str]) -> list[HeldKey]:
    """Each key on hold once: a key that was paused by hand is paused in every shard."""
    known: dict[tuple[str, str], HeldKey] = {}
    for held in (held for each in found for held in each):
        other = known.get((held.stage, held.key), replace(held, waiting=0))
        longest = max(other, held, key=lambda each: each.seconds_left)
        known[held.stage, held.key] = replace(longest, waiting=other.waiting + held.waiting)
    order = {stage: number for number, stage in enumerate(stages)}
    return sorted(known.values(), key=lambda held: (order.get(held.stage, len(order)), -held.seconds_left))


def merged_stats(found: Sequence[EdgeStats]) -> EdgeStats:
    """The figures of one edge in all shards."""
    held = Counter[str]()
    for each in found:
        held.update(each.held)
    return EdgeStats(
        waiting_since_ms=least(each.waiting_since_ms for each in found),
        last_due_ms=most(each.last_due_ms for each in found),
        memory_bytes=sum(each.memory_bytes for each in found),
        held={**held},
    )
