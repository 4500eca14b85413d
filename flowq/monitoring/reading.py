"""Reads the state of a pipeline for a monitoring tool, from Redis alone: no worker is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowq.broker.inspection.edge_stats import EdgeInspection, EdgeStats
from flowq.broker.inspection.merging.channels import Channels, channels_reading
from flowq.broker.inspection.merging.figures import merged_throughput
from flowq.broker.inspection.merging.readings import merged_stats
from flowq.broker.inspection.merging.shards_seen import ShardsSeen
from flowq.broker.inspection.merging.snapshots import lost_messages, merged_snapshot
from flowq.broker.inspection.throughput import Throughput, Throughputs
from flowq.broker.records import Snapshot
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs, StageBalance, balance_of
from flowq.broker.shards.every_shard import VIEW_PATIENCE_SECONDS, ask_every_shard
from flowq.broker.shards.waves import in_transit
from flowq.graph.compilation.plan import Plan
from flowq.monitoring.worker_health import WorkerHealth, workers_of


@dataclass(frozen=True, slots=True)
class Reading:
    """The state of a pipeline. `due`: the number of delayed messages that are due, by edge.

    Of several shards it is their sum, as far as they answer: `shards` says which do. It is None for one shard.
    """

    plan: Plan
    snapshot: Snapshot
    balances: Mapping[str, StageBalance]
    throughput: Mapping[str, Throughput]
    due: Mapping[str, int]
    edge_stats: Mapping[str, EdgeStats]
    workers: Sequence[WorkerHealth]
    shards: ShardsSeen[Snapshot] | None = None

    def waiting_seconds(self, edge: str) -> float:
        """The age of the oldest waiting message of an edge; 0 if there is none."""
        since_ms = self.edge_stats[edge].waiting_since_ms
        return 0.0 if since_ms is None else max(0, self.snapshot.now_ms - since_ms) / 1000

    def ready(self, stage: str) -> int:
        """The number of messages that a worker could start now: the measure to scale a stage by."""
        edges = self.plan.stage(stage).in_edges
        return self.balances[stage].waiting + sum(self.due[edge] for edge in edges)


async def read(broker: Broker, plan: Plan) -> Reading:
    """Read a pipeline, the counters of a shard at one instant. Raises BrokerUnavailable and BrokerRefused.

    Of several shards only those are read that answer, unless none does.
    """
    if len(broker.shards) == 1:
        return await _read(broker, plan)

    async def of_one(shard: Broker) -> tuple[Channels, Reading]:
        return await shard.read(channels_reading(shard.keys)), await _read(shard, plan, has_workers=False)

    found, workers = await asyncio.gather(
        ask_every_shard(broker, of_one, patience_seconds=VIEW_PATIENCE_SECONDS), workers_of(broker)
    )
    snapshots = {shard: seen.snapshot for shard, (_, seen) in found.by_shard.items()}
    transit = in_transit(channels for channels, _ in found.by_shard.values())
    shards = ShardsSeen(snapshots, found.silent, transit, lost_messages(snapshots))
    snapshot = merged_snapshot(snapshots, shards.all_in_transit, is_whole=not shards.silent)
    seen = [each for _, each in found.by_shard.values()]
    return Reading(
        plan=plan,
        snapshot=snapshot,
        balances=balance_of(plan, snapshot),
        throughput={each.name: merged_throughput([one.throughput[each.name] for one in seen]) for each in plan.stages},
        due={edge.name: sum(each.due[edge.name] for each in seen) for edge in plan.edges},
        edge_stats={edge.name: merged_stats([each.edge_stats[edge.name] for each in seen]) for edge in plan.edges},
        workers=workers,
        shards=shards,
    )


async def _read(broker: Broker, plan: Plan, *, has_workers: bool = True) -> Reading:
    edges = [edge.name for edge in plan.edges]
    snapshot = await Runs(broker).snapshot(edges, [stage.name for stage in plan.consumers])
    counted = await broker.ask([(b"ZCOUNT", broker.keys.delayed(edge), b"-inf", snapshot.now_ms) for edge in edges])
    return Reading(
        plan=plan,
        snapshot=snapshot,
        balances=balance_of(plan, snapshot),
        throughput=await Throughputs(broker).of(plan, snapshot),
        due={edge: n if isinstance(n, int) else 0 for edge, n in zip(edges, counted, strict=True)},
        edge_stats=await EdgeInspection(broker).stats(edges),
        workers=await workers_of(broker) if has_workers else (),
    )
