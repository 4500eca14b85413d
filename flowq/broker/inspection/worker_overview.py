"""The live workers of a pipeline at a glance, and what each of them has."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from flowq.broker.inspection.edge_overview import EdgeOverview
from flowq.broker.inspection.throughput_records import HalfMinute
from flowq.broker.records import Snapshot
from flowq.broker.workers import silent_seconds_in
from flowq.delivery.policy import AckMode
from flowq.graph.compilation.plan import Plan

_SILENT_SECONDS = 3.0  # a read waits two seconds for messages, and of many readers one has always just begun or ended


@dataclass(frozen=True, slots=True)
class WorkerOverview:
    """A live worker. What it does not report, as a worker of an earlier version, is None.

    `version` is that of flowq, `started_ms` when it first registered and `uptime_seconds` how long ago that is. By
    stage: `slots` are the messages that its handlers take at once, `running` the messages that it has, and `in_handler`
    those of them that are in a handler. `lease_left_seconds` is how long its lease lives if it is not renewed,
    `silent_seconds` for how long it has tried to read without success. `shards` are those that it serves, if
    there are several.
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
    shards: tuple[int, ...] = ()

    @property
    def is_silent(self) -> bool:
        """Whether it has been unable to read for longer than a reader that is well waits for messages."""
        return self.silent_seconds >= _SILENT_SECONDS

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON, with the name as `worker`."""
        values = asdict(self)
        if not self.shards:
            del values["shards"]
        return {"worker": values.pop("name"), **values}


@dataclass(slots=True)
class Crew:
    """The live workers of one stage together. `all_report`: whether each that has messages of it reports how many of
    them are in a handler."""

    workers: int = 0
    idle: int = 0
    slots: int = 0
    in_handler: int = 0
    all_report: bool = True


def crews_of(workers: Iterable[WorkerOverview]) -> Mapping[str, Crew]:
    """The crew of each stage that has one."""
    crews = defaultdict[str, Crew](Crew)
    for worker in workers:
        for stage in worker.stages:
            crew = crews[stage]
            crew.workers += 1
            crew.idle += stage not in worker.running
        for stage, n in worker.slots.items():
            crews[stage].slots += n
        for stage, n in (worker.in_handler or {}).items():
            crews[stage].in_handler += n
        for stage in worker.running if worker.in_handler is None else ():
            crews[stage].all_report = False
    return crews


def worker_overviews(
    plan: Plan,
    snapshot: Snapshot,
    leases: Mapping[str, tuple[str, int]],
    edges: Mapping[str, EdgeOverview],
    recorded: HalfMinute,
) -> dict[str, WorkerOverview]:
    """The workers whose lease lives, by name. `leases` have the heartbeat of each, and the ms that are left of it."""
    running = _running_by_worker(plan, edges)
    in_handlers = recorded.in_handlers
    facts = {known["worker"]: known for known in snapshot.workers}
    return {
        name: _worker(plan, facts[name], leases[name], running.get(name, {}), in_handlers.get(name), snapshot.now_ms)
        for name in sorted(leases)
    }


def _running_by_worker(plan: Plan, edges: Mapping[str, EdgeOverview]) -> Mapping[str, Mapping[str, int]]:
    """By worker, the messages of each stage that were delivered to it."""
    running = defaultdict[str, Counter[str]](Counter)
    for edge in plan.edges:
        for worker, n in edges[edge.name].held.items():
            running[worker][edge.target] += n
    return {worker: dict(stages) for worker, stages in running.items()}


def _worker(
    plan: Plan,
    facts: Mapping[str, Any],
    lease: tuple[str, int],
    running: Mapping[str, int],
    told: Mapping[str, int] | None,
    now_ms: int,
) -> WorkerOverview:
    heartbeat, lease_left_ms = lease
    stages, started_ms = tuple(facts.get("stages", ())), facts.get("started_ms")
    return WorkerOverview(
        name=facts["worker"],
        host=facts.get("host", ""),
        pid=facts.get("pid", 0),
        stages=stages,
        version=facts.get("version"),
        started_ms=started_ms,
        uptime_seconds=None if started_ms is None else max(0, now_ms - started_ms) / 1000,
        slots=facts.get("slots") or _slots(plan, stages),
        running=running,
        in_handler=None if told is None else _in_handler(plan, running, told),
        lease_seconds=facts.get("lease_seconds"),
        lease_left_seconds=lease_left_ms / 1000,
        silent_seconds=silent_seconds_in(heartbeat),
    )


def _slots(plan: Plan, stages: Sequence[str]) -> Mapping[str, int]:
    """The slots of a worker that does not report them, if it was started with the options known here."""
    return {stage.name: stage.slots for name in stages if (stage := plan.stage_by_name.get(name))}


def _in_handler(plan: Plan, running: Mapping[str, int], told: Mapping[str, int]) -> Mapping[str, int]:
    """What a worker reported up to a second ago, as far as it can still be true: what is settled is in no handler,
    unless it may be settled early."""
    found: dict[str, int] = {}
    for name, n in told.items():
        stage = plan.stage_by_name.get(name)
        if stage is not None and (most := n if stage.ack is not AckMode.AFTER else min(n, running.get(name, 0))):
            found[name] = most
    return found
