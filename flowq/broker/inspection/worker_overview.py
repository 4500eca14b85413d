"""The workers of a pipeline at a glance: those alive, with what each has, and those that died within a day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from flowq.broker.inspection.edge_overview import EdgeOverview
from flowq.broker.workers import silent_seconds_in
from flowq.graph.compilation.plan import Plan


@dataclass(frozen=True, slots=True)
class WorkerOverview:
    """A live worker. What it does not tell, as one of an earlier version, is None or empty.

    `version` is that of flowq, `started_ms` when it registered first and `uptime_seconds` how long ago that is. By
    stage: `slots` are the messages that its handlers take at once, `running` the messages that it has, and `in_handler`
    those of them that are in a handler. `lease_left_seconds` is how long its lease lives if it is not renewed,
    `silent_seconds` for how long it has tried to read without success.
    """

    name: str
    host: str = ""
    pid: int = 0
    stages: tuple[str, ...] = ()
    version: str | None = None
    started_ms: int | None = None
    uptime_seconds: float | None = None
    slots: Mapping[str, int] = field(default_factory=dict[str, int])
    running: Mapping[str, int] = field(default_factory=dict[str, int])
    in_handler: Mapping[str, int] | None = None
    lease_seconds: float | None = None
    lease_left_seconds: float | None = None
    silent_seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON, with the name as `worker`."""
        values = asdict(self)
        return {"worker": values.pop("name"), **values}


@dataclass(frozen=True, slots=True)
class DeadWorker:
    """A worker that died within the last day: `at_ms` is when that was noticed, `how` what was seen of it."""

    name: str
    at_ms: int
    how: str
    host: str = ""
    pid: int = 0
    stages: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON, with the name as `worker`."""
        values = asdict(self)
        return {"worker": values.pop("name"), **values}


def slots_of(plan: Plan, stages: Sequence[str]) -> dict[str, int]:
    """How many messages the handlers of these stages take at once in one worker: as in the code here."""
    known = [plan.stage_by_name[stage] for stage in stages if stage in plan.stage_by_name]
    return {stage.name: stage.concurrency * (stage.batch.size if stage.batch else 1) for stage in known}


def worker_overview(
    plan: Plan, facts: Mapping[str, Any], heartbeat: str, edges: Mapping[str, EdgeOverview]
) -> WorkerOverview:
    """A worker with these facts, whose lease lives."""
    name, stages = facts["worker"], tuple(facts.get("stages", ()))
    running: dict[str, int] = {}
    for edge, overview in edges.items():
        if n := overview.held.get(name):
            stage = plan.edge_by_name[edge].target
            running[stage] = running.get(stage, 0) + n
    return WorkerOverview(
        name=name,
        host=facts.get("host", ""),
        pid=facts.get("pid", 0),
        stages=stages,
        slots=slots_of(plan, stages),
        running=running,
        lease_seconds=facts.get("lease_seconds"),
        silent_seconds=silent_seconds_in(heartbeat),
    )
