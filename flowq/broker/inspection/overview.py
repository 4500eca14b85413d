"""A whole pipeline at a glance: counters, speeds, ages, workers, memory, the bottleneck, and the time left."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowq.broker.client.rounds import Rounds, together
from flowq.broker.inspection.causes import Cause, CauseKind
from flowq.broker.inspection.dead_workers import DeadWorker, Deaths, dead_workers, deaths_reading
from flowq.broker.inspection.edge_overview import EdgeOverview, edge_overview
from flowq.broker.inspection.edge_stats import EdgeInspection, RunningMessage
from flowq.broker.inspection.forecasts import Forecast
from flowq.broker.inspection.merging.shards_seen import ShardsOverview
from flowq.broker.inspection.outlook import Outlook, outlook_of
from flowq.broker.inspection.pacing_keys import HeldKey, KeyInspection
from flowq.broker.inspection.retried_errors import RetriedError, RetriedErrors
from flowq.broker.inspection.throughput import Throughput, bounds_of, throughput_of
from flowq.broker.inspection.throughput_records import Durations, HalfMinute, records_reading
from flowq.broker.inspection.worker_overview import Crew, WorkerOverview, crews_of, worker_overviews
from flowq.broker.records import WHOLE, Snapshot
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs, StageBalance, balance_of
from flowq.broker.workers import Workers
from flowq.delivery.policy import AckMode
from flowq.graph.compilation.plan import Plan, StagePlan

_SHORTEST_JAM_SECONDS = 1.0
MOST_SLOW = 8


@dataclass(frozen=True, slots=True)
class StageOverview:
    """One stage. `workers` are the live ones that run it, `idle_workers` those of them without a message of it.

    `dead_letters` are those kept now, whichever run they died in. `waiting_seconds` is how long the oldest waiting
    message has waited, None when nothing waits. `errors` are why messages are tried again.

    `slots` are the messages that the handlers of its live workers take at once. Of the running messages, `in_handler`
    are in a handler and `read_ahead` are delivered, but not in a handler; both are None if a worker does not report it.
    With `ack="first"` and "manual", messages in a handler may be settled already, and are then not among the running.
    """

    balance: StageBalance
    throughput: Throughput
    dead_letters: int
    workers: int
    idle_workers: int
    waiting_seconds: float | None
    memory_bytes: int
    errors: Sequence[RetriedError] = ()
    slots: int = 0
    in_handler: int | None = None

    @property
    def read_ahead(self) -> int | None:
        return None if self.in_handler is None else max(0, self.balance.running - self.in_handler)

    @property
    def durations(self) -> Durations:
        """How many handler calls took how long in the last half minute, see `bounds_of`."""
        return self.throughput.durations

    @property
    def seconds_to_clear(self) -> float:
        """How long the stage needs at its speed for the messages it has now."""
        left = self.balance.outstanding
        if not left:
            return 0.0
        return left / self.throughput.per_second if self.throughput.per_second else math.inf

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            **self.balance.as_json(),
            "adds_up": self.balance.adds_up,
            "in_handler": self.in_handler,
            "read_ahead": self.read_ahead,
            "slots": self.slots,
            "dead_letters": self.dead_letters,
            **self.throughput.as_json(),
            "oldest_seconds": None if self.waiting_seconds is None else round(self.waiting_seconds, 3),
            "workers": self.workers,
            "idle_workers": self.idle_workers,
            "memory_bytes": self.memory_bytes,
            "errors": [error.as_json() for error in self.errors],
            "durations": [
                {"from_seconds": low, "to_seconds": high, "calls": self.durations[bucket]}
                for bucket in sorted(self.durations)
                for low, high in [bounds_of(bucket)]
            ],
        }


@dataclass(frozen=True, slots=True)
class Overview:
    """A pipeline at one instant. `workers` are those alive, `dead_workers` those that died within a day, latest first.

    `held` are the pacing keys on hold; `queued` counts, by stage, the delayed messages that wait for others of their
    pacing key: when they are due is unknown. `slowest` are the messages that have been running longest, and for half a
    second at least. `recorded` is what workers recorded in the last half minute, `deaths` what is known of dead
    workers. `shards` are the shards that it is made of, None if the pipeline has only one.
    """

    plan: Plan
    snapshot: Snapshot
    stages: Mapping[str, StageOverview]
    edges: Mapping[str, EdgeOverview]
    workers: Mapping[str, WorkerOverview]
    held: Sequence[HeldKey]
    queued: Mapping[str, int]
    outlook: Outlook
    recorded: HalfMinute = field(repr=False)
    slowest: Sequence[RunningMessage]
    deaths: Deaths = field(repr=False)
    dead_workers: Sequence[DeadWorker] = ()
    shards: ShardsOverview | None = None
    by_shard: Mapping[int, Overview] = field(default_factory=dict[int, "Overview"], repr=False)

    @classmethod
    def reading(cls, broker: Broker, plan: Plan, before: Overview | None = None) -> Rounds[Overview]:
        """Read everything of one shard, in two calls. The counters are of one instant; the rest is read just after it.

        `before`: an earlier look, so that what cannot have changed since then is not read again, and an edge that was
        full then counts as full until it is down to four fifths of its limit, as for the workers.
        """
        paced = [stage.name for stage in plan.consumers if stage.rate is not None]
        keys = KeyInspection(broker)
        edge_names = [edge.name for edge in plan.edges]
        (snapshot, leases, errors), edge_stats, records, held, queued, deaths, slowest = yield from together(
            _state_reading(broker, plan, before.snapshot.orphans if before else ()),
            EdgeInspection(broker).stats_reading(edge_names),
            records_reading(broker.keys, before.recorded if before else None),
            keys.held_reading(paced),
            keys.queued_reading(paced),
            deaths_reading(broker.keys, before.deaths if before else {}),
            EdgeInspection(broker).slowest_reading(edge_names, limit=MOST_SLOW),
        )
        recorded = HalfMinute.of(records, snapshot, before.recorded if before else None)
        edges = {edge.name: edge_overview(edge, snapshot, edge_stats[edge.name], recorded) for edge in plan.edges}
        workers = worker_overviews(plan, snapshot, leases, edges, recorded)
        stages = stages_of(plan, snapshot, throughput_of(plan, recorded, snapshot), errors, edges, workers)
        before_this = before.outlook if before else None
        return cls(
            plan=plan,
            snapshot=snapshot,
            stages=stages,
            edges=edges,
            workers=workers,
            held=held,
            outlook=outlook_of(plan, snapshot, stages, edges, held, workers, recorded.levels, before_this),
            queued=queued,
            recorded=recorded,
            slowest=slowest,
            deaths=deaths,
            dead_workers=dead_workers(snapshot, leases, deaths),
        )

    @property
    def now_ms(self) -> int:
        """The moment of the counters, in ms of the server's clock."""
        return self.snapshot.now_ms

    @property
    def open_sources(self) -> tuple[str, ...]:
        """The sources of this run that have not finished."""
        return self.snapshot.open_sources

    @property
    def causes(self) -> Mapping[str, Cause]:
        """Why each stage is as fast as it is."""
        return self.outlook.causes

    @property
    def forecasts(self) -> Mapping[str, Forecast]:
        """The forecast of each edge that has one."""
        return self.outlook.forecasts

    @property
    def full(self) -> frozenset[str]:
        """The edges that hold back what feeds them."""
        return self.outlook.full

    @property
    def state(self) -> str:
        """What the pipeline is doing, in one word."""
        if WHOLE in self.snapshot.paused:
            return "paused"
        if not self.snapshot.is_drained:
            if not self.snapshot.is_whole and not self.snapshot.outstanding:
                return "unknown"  # what is left, if anything is, lies in a shard that does not answer
            return "working" if self.workers else "stopped"
        return "drained" if self.snapshot.run or self.snapshot.counters else "never run"

    @property
    def bottleneck(self) -> str | None:
        """The stage that needs longest for what waits there, None if no stage is behind.

        A stage that is held back is never the bottleneck: the bottleneck is further downstream.
        """
        jammed = {
            name: stage.seconds_to_clear
            for name, stage in self.stages.items()
            if stage.balance.waiting
            and stage.workers
            and self.causes[name].kind not in (CauseKind.PAUSED, CauseKind.HELD_BACK)
            and stage.seconds_to_clear >= _SHORTEST_JAM_SECONDS
        }
        return max(jammed, key=jammed.__getitem__, default=None)

    @property
    def eta_seconds(self) -> float | None:
        """The seconds until everything known is done at the present speed; None if that is unknown.

        What is still to come, from a source or along a cycle, is not known yet.
        """
        is_known = self.snapshot.is_whole and not self.snapshot.open_sources
        if self.state != "working" or not is_known or self.snapshot.paused:
            return None
        slowest = max(stage.seconds_to_clear for stage in self.stages.values())
        if math.isinf(slowest):
            return None
        known = [edge_stats.last_due_ms or 0 for edge, edge_stats in self.edges.items() if not self._queues(edge)]
        due_ms = max(known, default=0)
        return max(slowest, (due_ms - self.snapshot.now_ms) / 1000)

    def _queues(self, edge: str) -> bool:
        return self.queued.get(self.plan.edge_by_name[edge].target, 0) > 0

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        eta = self.eta_seconds
        return {
            "pipeline": self.plan.name,
            "now_ms": self.now_ms,
            "run": self.snapshot.run.get("id", ""),
            "state": self.state,
            "left": self.snapshot.outstanding,
            "open_sources": list(self.open_sources),
            "paused": dict(self.snapshot.paused),
            "bottleneck": self.bottleneck,
            "eta_seconds": None if eta is None else round(eta, 1),
            "workers": [worker.as_json() for worker in self.workers.values()],
            "dead_workers": [worker.as_json() for worker in self.dead_workers],
            "slowest": [message.as_json() for message in self.slowest],
            "held": [held.as_json() for held in self.held],
            "orphans": {edge: left.outstanding for edge, left in self.snapshot.orphans.items() if left.outstanding},
            "orphan_dead_letters": {stage: n for stage, n in self.snapshot.orphan_letters.items() if n},
            "stages": {
                name: {**stage.as_json(), "cause": self.causes[name].as_json()} for name, stage in self.stages.items()
            },
            "edges": {
                name: {**edge.as_json(), "forecast": self.forecasts[name].as_json() if name in self.forecasts else None}
                for name, edge in self.edges.items()
            },
            **(self.shards.as_json() if self.shards else {}),
        }


def _state_reading(
    broker: Broker, plan: Plan, orphans: Collection[str]
) -> Rounds[tuple[Snapshot, Mapping[str, tuple[str, int]], Mapping[str, Sequence[RetriedError]]]]:
    """The snapshot, and what can be asked for only when it is known: leases, and why messages are tried again."""
    edges, stages = [edge.name for edge in plan.edges], [stage.name for stage in plan.consumers]
    snapshot = yield from Runs(broker).snapshot_reading(edges, stages, orphans=orphans)
    leases, errors = yield from together(
        Workers(broker).leases_reading([facts["worker"] for facts in snapshot.workers]),
        RetriedErrors(broker).reading(plan, snapshot),
    )
    return snapshot, leases, errors


def stages_of(
    plan: Plan,
    snapshot: Snapshot,
    throughput: Mapping[str, Throughput],
    errors: Mapping[str, Sequence[RetriedError]],
    edges: Mapping[str, EdgeOverview],
    workers: Mapping[str, WorkerOverview],
) -> dict[str, StageOverview]:
    """Every stage, in the order of the plan, from what is known of all of them."""
    balances, crews = balance_of(plan, snapshot), crews_of(workers.values())
    return {
        (name := stage.name): _stage(
            stage, balances[name], throughput[name], errors.get(name, ()), snapshot, edges, crews.get(name, Crew())
        )
        for stage in plan.stages
    }


def _stage(
    stage: StagePlan,
    balance: StageBalance,
    throughput: Throughput,
    errors: Sequence[RetriedError],
    snapshot: Snapshot,
    edge_overviews: Mapping[str, EdgeOverview],
    crew: Crew,
) -> StageOverview:
    edges = [edge_overviews[edge] for edge in stage.in_edges]
    most = balance.running if stage.ack is AckMode.AFTER else math.inf
    return StageOverview(
        balance=balance,
        throughput=throughput,
        dead_letters=snapshot.dead_letters.get(stage.name, 0),
        workers=crew.workers,
        idle_workers=crew.idle,
        waiting_seconds=max((edge.oldest_seconds for edge in edges if edge.oldest_seconds is not None), default=None),
        memory_bytes=sum(edge.memory_bytes for edge in edges),
        errors=errors,
        slots=crew.slots,
        in_handler=int(min(crew.in_handler, most)) if crew.all_report else None,
    )
