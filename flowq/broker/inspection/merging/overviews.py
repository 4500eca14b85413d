"""The overview of a pipeline, whatever the number of its shards: each is looked at at the same time as the others."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from flowq.broker.client.rounds import Rounds, together
from flowq.broker.inspection.dead_workers import DeadWorker
from flowq.broker.inspection.merging.channels import Channels, channels_reading
from flowq.broker.inspection.merging.figures import (
    merged_edge,
    merged_errors,
    merged_levels,
    merged_throughput,
    merged_workers,
)
from flowq.broker.inspection.merging.readings import merged_held
from flowq.broker.inspection.merging.shards_seen import ShardFigures, ShardsOverview
from flowq.broker.inspection.merging.snapshots import lost_messages, merged_snapshot, process_of
from flowq.broker.inspection.outlook import outlook_of
from flowq.broker.inspection.overview import MOST_SLOW, Overview, stages_of
from flowq.broker.inspection.throughput_records import HalfMinute
from flowq.broker.inspection.worker_overview import WorkerOverview
from flowq.broker.records import RECEIVED, TAKES_PART, before_move
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.every_shard import VIEW_PATIENCE_SECONDS, ask_every_shard, server_of
from flowq.broker.shards.waves import in_transit
from flowq.graph.compilation.plan import Plan


async def overview_of(broker: Broker, plan: Plan, *, before: Overview | None = None) -> Overview:
    """Look at all shards of a pipeline, in two calls to each. `before` as for `Overview.reading`.

    A shard that does not answer is named in `shards.silent`, and what it holds is missing in the sums. Raises
    BrokerUnavailable if none answers.
    """
    if len(broker.shards) == 1:
        return await broker.read(Overview.reading(broker, plan, before))
    known: Mapping[int, Overview] = before.by_shard if before else {}

    async def look(shard: Broker) -> tuple[Overview, Channels]:
        reading: Rounds[list[Any]] = together(
            channels_reading(shard.keys), Overview.reading(shard, plan, known.get(shard.shard))
        )
        channels, overview = await shard.read(reading)
        return cast("Overview", overview), cast("Channels", channels)

    found = await ask_every_shard(broker, look, patience_seconds=VIEW_PATIENCE_SECONDS)
    by_shard = {shard: overview for shard, (overview, _) in found.by_shard.items()}
    snapshots = {shard: overview.snapshot for shard, overview in by_shard.items()}
    names = process_names(by_shard.values())
    transit = in_transit(channels for _, channels in found.by_shard.values())
    addresses = {shard.shard: server_of(shard) for shard in broker.shards}
    figures = {shard: _figures(shard, addresses[shard], each) for shard, each in by_shard.items()}
    seen = ShardsOverview(figures, found.silent, transit, lost_messages(snapshots))
    return merged_overview(plan, by_shard, seen, names, before=before)


def process_names(overviews: Iterable[Overview]) -> dict[str, str]:
    """For each registered worker the name of its process: the first name under which that is registered."""
    first: dict[object, str] = {}
    names: dict[str, str] = {}
    for overview in overviews:
        for facts in sorted(overview.snapshot.workers, key=lambda facts: str(facts["worker"])):
            names[facts["worker"]] = first.setdefault(process_of(facts), facts["worker"])
    return names


def merged_overview(
    plan: Plan,
    by_shard: Mapping[int, Overview],
    shards: ShardsOverview,
    names: Mapping[str, str],
    *,
    before: Overview | None = None,
) -> Overview:
    """Several shards as one pipeline. Pure."""
    seen = [by_shard[shard] for shard in sorted(by_shard)]
    snapshot = merged_snapshot(
        {shard: each.snapshot for shard, each in by_shard.items()}, shards.all_in_transit, is_whole=not shards.silent
    )
    edges = {edge.name: merged_edge([each.edges[edge.name] for each in seen], names) for edge in plan.edges}
    workers = merged_workers((lane for shard in sorted(by_shard) for lane in _lanes(shard, by_shard[shard])), names)
    throughput = {
        stage.name: merged_throughput([each.stages[stage.name].throughput for each in seen]) for stage in plan.stages
    }
    errors = merged_errors({name: stage.errors for name, stage in each.stages.items()} for each in seen)
    stages = stages_of(plan, snapshot, throughput, errors, edges, workers)
    held = merged_held([each.held for each in seen], list(plan.stage_by_name))
    levels = merged_levels([each.recorded.levels for each in seen])
    slowest = sorted((message for each in seen for message in each.slowest), key=lambda each: -each.seconds)
    return Overview(
        plan=plan,
        snapshot=snapshot,
        stages=stages,
        edges=edges,
        workers=workers,
        held=held,
        outlook=outlook_of(plan, snapshot, stages, edges, held, workers, levels, before.outlook if before else None),
        queued={stage: sum(each.queued.get(stage, 0) for each in seen) for stage in seen[0].queued},
        recorded=HalfMinute(snapshot.now_ms, (), {}, {}),
        slowest=[replace(each, worker=names.get(each.worker, each.worker)) for each in slowest[:MOST_SLOW]],
        deaths={},
        dead_workers=_dead_workers(seen, names, workers),
        shards=shards,
        by_shard=by_shard,
    )


def _lanes(shard: int, overview: Overview) -> Iterator[WorkerOverview]:
    """Who is registered in a shard, each with that as the shard it serves, if it serves it."""
    for worker in overview.workers.values():
        yield replace(worker, shards=(shard,) if worker.name in _serving(overview) else ())


def _serving(overview: Overview) -> Mapping[str, Hashable]:
    """The live workers that serve a shard, and the process of each. In shard 0 processes are registered as well."""
    return {
        facts["worker"]: process_of(facts)
        for facts in overview.snapshot.workers
        if facts["worker"] in overview.workers and TAKES_PART not in facts
    }


def _dead_workers(seen: Sequence[Overview], names: Mapping[str, str], alive: Mapping[str, object]) -> list[DeadWorker]:
    """Each process once, latest first: its death is noted in every shard that it served.

    Not a process of which a lane has ended, and others live.
    """
    found: dict[object, DeadWorker] = {}
    for dead in (dead for each in seen for dead in each.dead_workers):
        if names.get(dead.name, dead.name) in alive:
            continue
        known = found.setdefault((dead.host, dead.pid) if dead.pid else dead.name, dead)
        found[(dead.host, dead.pid) if dead.pid else dead.name] = max(known, dead, key=lambda each: each.at_ms or 0)
    unnoticed = [dead for dead in found.values() if dead.at_ms is None]
    return [*unnoticed, *sorted((d for d in found.values() if d.at_ms is not None), key=lambda d: -(d.at_ms or 0))]


def _figures(shard: int, address: str, overview: Overview) -> ShardFigures:
    stages = [overview.stages[stage.name] for stage in overview.plan.consumers]
    rates = [stage.throughput.per_second for stage in stages if stage.throughput.per_second is not None]
    return ShardFigures(
        shard=shard,
        address=address,
        received=sum(stage.balance.entered for stage in stages),
        waiting=sum(stage.balance.waiting for stage in stages),
        delayed=sum(stage.balance.delayed for stage in stages),
        running=sum(stage.balance.running for stage in stages),
        dead_letters=sum(stage.dead_letters for stage in stages),
        rate=sum(rates) if rates else None,
        memory_bytes=sum(stage.memory_bytes for stage in stages),
        workers=len({*_serving(overview).values()}),
        lost=sum(lost_messages({shard: overview.snapshot}).values()),
        received_before_move=overview.snapshot.counters.get(before_move(RECEIVED), 0),
    )
