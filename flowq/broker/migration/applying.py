"""Makes Redis agree with the code: moves messages to where they go now, and puts the plan on record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowq.broker.edges import Edges
from flowq.broker.migration.changes import Changes
from flowq.broker.migration.moving import StillServed, call_all, move_edge, move_stage
from flowq.broker.migration.recorded_plan import drop_edge, orphans_of, record_plan
from flowq.broker.redis_streams import Broker
from flowq.delivery.edge import Edge
from flowq.graph.compilation.plan import Plan


async def apply(
    broker: Broker, plan: Plan, changes: Changes, workers: Mapping[str, Mapping[str, Any]]
) -> dict[str, int]:
    """Carry out what was found; how many messages were moved from each edge.

    Every step is atomic and may be repeated: broken off, the same call does the rest. `workers` are those alive. Raises
    StillServed, before anything is changed, when one of them serves an edge that is to be moved.
    """
    moved = [change for change in changes.changes if change.kind == "moved"]
    _refuse_served([change.edge for change in moved], workers)
    by_stage = {old: {edge.edge: edge.to for edge in moved if old in Edge.parse(edge.edge)} for old in changes.moves}
    await Edges(broker).ensure_groups([edge.name for edge in plan.edges])
    for old, edges in by_stage.items():
        await call_all(broker, old, [edge for edge in edges if edge.endswith(f">{old}")])
    counts = {change.edge: await move_edge(broker, change.edge, change.to) for change in moved}
    for old, new in changes.moves.items():
        await move_stage(broker, old, new, by_stage[old])
    for orphan in await orphans_of(broker, plan):
        if not orphan.outstanding and not _worker_of(orphan.edge, workers):
            await drop_edge(broker, orphan)
    await record_plan(broker, plan)
    return counts


def _worker_of(edge: str, workers: Mapping[str, Mapping[str, Any]]) -> str:
    """A living worker that has the edge, "" if none has."""
    return next((name for name, facts in workers.items() if edge in facts.get("edges", ())), "")


def _refuse_served(edges: list[str], workers: Mapping[str, Mapping[str, Any]]) -> None:
    for edge in edges:
        if worker := _worker_of(edge, workers):
            raise StillServed(
                f"{edge} is still served by worker {worker}; nothing was moved",
                hint="stop the workers of the earlier version; one that was killed counts until its lease ends",
            )
