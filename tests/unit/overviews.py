"""Overviews from values, for tests of what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from flowq.broker.inspection.edge_overview import edge_overview
from flowq.broker.inspection.edge_stats import EdgeStats
from flowq.broker.inspection.outlook import outlook_of
from flowq.broker.inspection.overview import Overview, StageOverview
from flowq.broker.inspection.pacing_keys import HeldKey
from flowq.broker.inspection.throughput import Throughput
from flowq.broker.inspection.throughput_records import HalfMinute
from flowq.broker.inspection.worker_overview import WorkerOverview
from flowq.broker.records import Snapshot
from flowq.broker.runs import balance_of
from flowq.graph.compilation.plan import Plan

NOTHING_RECORDED: Mapping[str, Throughput] = MappingProxyType({})


def overview_of(
    plan: Plan,
    snapshot: Snapshot,
    *,
    throughput: Mapping[str, Throughput] = NOTHING_RECORDED,
    held: Sequence[HeldKey] = (),
    workers: Mapping[str, Sequence[str]] = MappingProxyType({}),
    levels: Sequence[tuple[int, Mapping[str, int]]] = (),
) -> Overview:
    """What a look finds where nothing is recorded but this. `workers`: each with its stages."""
    recorded = HalfMinute.of({}, snapshot)
    edges = {edge.name: edge_overview(edge, snapshot, EdgeStats(None, None, 0, {}), recorded) for edge in plan.edges}
    balances = balance_of(plan, snapshot)
    stages: dict[str, StageOverview] = {}
    for stage in plan.stages:
        here = sum(stage.name in names for names in workers.values())
        stages[stage.name] = StageOverview(
            balance=balances[stage.name],
            throughput=throughput.get(stage.name, Throughput()),
            dead_letters=snapshot.dead_letters.get(stage.name, 0),
            workers=here,
            idle_workers=0,
            waiting_seconds=None,
            memory_bytes=0,
            slots=here * stage.concurrency,
        )
    return Overview(
        plan=plan,
        snapshot=snapshot,
        stages=stages,
        edges=edges,
        workers={name: WorkerOverview(name, stages=tuple(names)) for name, names in workers.items()},
        held=held,
        queued={},
        outlook=outlook_of(plan, snapshot, stages, edges, held, workers, levels, None),
        recorded=recorded,
        slowest=(),
        deaths={},
    )
