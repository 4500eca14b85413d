"""The causes of all stages and the forecasts of all edges, from their figures. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from flowq.broker.inspection.causes import Cause, Situation, cause_of
from flowq.broker.inspection.edge_overview import EdgeOverview
from flowq.broker.inspection.forecasts import Forecast, forecast_of
from flowq.broker.inspection.fullness import capacity_of, full_edges
from flowq.broker.inspection.pacing_keys import HeldKey
from flowq.broker.inspection.throughput import Throughput
from flowq.broker.records import Snapshot
from flowq.broker.runs import StageBalance
from flowq.graph.compilation.plan import Plan, StagePlan


class StageFigures(Protocol):
    """The figures of one stage that its cause depends on."""

    @property
    def balance(self) -> StageBalance: ...
    @property
    def throughput(self) -> Throughput: ...
    @property
    def workers(self) -> int: ...
    @property
    def slots(self) -> int: ...
    @property
    def in_handler(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Outlook:
    """The cause of each stage, the forecast of each edge that has one, and which edges are full."""

    causes: Mapping[str, Cause]
    forecasts: Mapping[str, Forecast]
    full: frozenset[str]
    at_ms: int


def outlook_of(
    plan: Plan,
    snapshot: Snapshot,
    stages: Mapping[str, StageFigures],
    edges: Mapping[str, EdgeOverview],
    held: Sequence[HeldKey],
    workers: Collection[str],
    counted: Sequence[tuple[int, Mapping[str, int]]],
    before: Outlook | None,
) -> Outlook:
    """The outlook at the moment of a snapshot, given the previous outlook `before`, if there was one.

    counted: how many messages the edges held at some moments in ms, the latest last.
    """
    capacities = {
        edge.name: capacity_of(edge, edges[edge.name].outstanding, edges[edge.name].memory_bytes) for edge in plan.edges
    }
    now = {name: edge.outstanding for name, edge in edges.items()}
    since = [level for ms, level in counted if before is None or ms > before.at_ms]
    full = full_edges(capacities, [*since, now], before.full if before else frozenset())
    holds, full_after = defaultdict[str, list[tuple[str, float]]](list), defaultdict[str, list[str]](list)
    for key in held:
        holds[key.stage].append((key.key, key.seconds_left))
    for name in sorted(full, key=lambda name: -now[name] / capacities[name]):
        full_after[plan.edge_by_name[name].origin].append(plan.edge_by_name[name].target)
    is_over, causes = snapshot.is_drained, dict[str, Cause]()
    for stage in plan.stages:
        name, n = stage.name, len(workers)
        situation = _situation(stage, snapshot, stages[name], holds.get(name, ()), full_after.get(name, ()), n, is_over)
        causes[name] = cause_of(situation)
    forecasts: dict[str, Forecast] = {}
    for edge in plan.edges:
        held_now = now[edge.name]
        levels = [(ms, level[edge.name]) for ms, level in counted if edge.name in level] if held_now else []
        levels.append((snapshot.now_ms, held_now))
        moves = stages[edge.target].throughput.per_second != 0
        forecast = forecast_of(levels, capacity=capacities[edge.name], is_full=edge.name in full, moves=moves)
        if forecast is not None:
            forecasts[edge.name] = forecast
    return Outlook(causes, forecasts, full, snapshot.now_ms)


def _situation(
    stage: StagePlan,
    snapshot: Snapshot,
    figures: StageFigures,
    holds: Sequence[tuple[str, float]],
    full: Sequence[str],
    workers: int,
    is_over: bool,
) -> Situation:
    is_open, balance = stage.name in snapshot.open_sources, figures.balance
    return Situation(
        is_source=stage.is_source,
        is_open=is_open,
        is_finished=f"source:{stage.name}" in snapshot.run and not is_open,
        is_paused=snapshot.is_paused(stage.name),
        is_rated=stage.rate is not None,
        is_over=is_over,
        has_run=bool(snapshot.run or snapshot.counters),
        full=tuple(full),
        holds=tuple(holds),
        workers=workers if stage.is_source else figures.workers,
        rate=figures.throughput.per_second,
        waiting=balance.waiting,
        delayed=balance.delayed,
        # What an old worker has includes what it has read ahead, which it does only while its slots are taken.
        running=min(balance.running, figures.slots) if figures.in_handler is None else figures.in_handler,
        slots=figures.slots,
    )
