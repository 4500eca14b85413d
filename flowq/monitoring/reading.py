"""Reads the state of a pipeline for a monitoring tool, from Redis alone: no worker is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowq.broker.inspection.edge_stats import EdgeInspection, EdgeStats
from flowq.broker.inspection.throughput import Throughput, Throughputs
from flowq.broker.records import Snapshot
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs, StageBalance, balance_of
from flowq.graph.compilation.plan import Plan
from flowq.monitoring.worker_health import WorkerHealth, workers_of


@dataclass(frozen=True, slots=True)
class Reading:
    """The state of a pipeline. `due`: the number of delayed messages that are due, by edge."""

    plan: Plan
    snapshot: Snapshot
    balances: Mapping[str, StageBalance]
    throughput: Mapping[str, Throughput]
    due: Mapping[str, int]
    edge_stats: Mapping[str, EdgeStats]
    workers: Sequence[WorkerHealth]

    def waiting_seconds(self, edge: str) -> float:
        """The age of the oldest waiting message of an edge; 0 if there is none."""
        since_ms = self.edge_stats[edge].waiting_since_ms
        return 0.0 if since_ms is None else max(0, self.snapshot.now_ms - since_ms) / 1000

    def ready(self, stage: str) -> int:
        """The number of messages that a worker could start now: the measure to scale a stage by."""
        edges = self.plan.stage(stage).in_edges
        return self.balances[stage].waiting + sum(self.due[edge] for edge in edges)


async def read(broker: Broker, plan: Plan) -> Reading:
    """Read a pipeline, its counters at one instant. Raises BrokerUnavailable and BrokerRefused."""
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
        workers=await workers_of(broker),
    )
