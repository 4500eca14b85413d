"""Why messages are tried again: the errors of each stage, how often they happened, and what they delay now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowq.broker import scripts
from flowq.broker.client.rounds import Rounds, ScriptCall
from flowq.broker.records import OTHER, FailureCount, Snapshot
from flowq.broker.redis_streams import Broker
from flowq.delivery.failed_attempts import failures_of
from flowq.delivery.message import Header
from flowq.delivery.stored import moment_in
from flowq.graph.compilation.plan import Plan, StagePlan

_MOST_LOOKED_AT = 1000  # delayed messages of an edge
_MOST_UNCOUNTED = 20  # where no failure was counted: what is left to another version is due first
_QUEUED_MS = 23 * 3_600_000  # what waits in the queue of a pacing key is delayed by a day, and called earlier


@dataclass(frozen=True, slots=True)
class RetriedError:
    """One kind of error of a stage whose messages are tried again.

    `retries` are the attempts that failed with it in this run, `delayed` the messages that wait because of it now: of
    an edge with more than 1000 delayed messages, only those due first are counted. The next of them makes the attempt
    `attempt` of `attempts` in `next_try_seconds`, which is None while it waits for other messages of its pacing key.
    All three are None while no message is delayed.
    """

    kind: str
    error: str
    place: str
    retries: int
    delayed: int = 0
    attempt: int | None = None
    attempts: int | None = None
    next_try_seconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        seconds = self.next_try_seconds
        return {
            "error": self.error,
            "place": self.place or None,
            "retries": self.retries,
            "delayed": self.delayed,
            "attempt": self.attempt,
            "attempts": self.attempts,
            "next_try_seconds": None if seconds is None else round(seconds, 1),
        }


class RetriedErrors:
    """The errors of one pipeline that are followed by another attempt."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def of(self, plan: Plan, snapshot: Snapshot) -> Mapping[str, Sequence[RetriedError]]:
        """The errors of each stage that has any, those that delay most messages first."""
        return await self._broker.read(self.reading(plan, snapshot))

    def reading(self, plan: Plan, snapshot: Snapshot) -> Rounds[Mapping[str, Sequence[RetriedError]]]:
        """The same, in one round, or none if no message is delayed."""
        found = {
            stage.name: {counted.kind: _counted(counted) for counted in snapshot.failures[stage.name]}
            for stage in plan.consumers
            if stage.name in snapshot.failures
        }
        edges = [edge for edge in plan.edges if snapshot.edges[edge.name].delayed]
        if edges:
            keys = self._broker.keys
            names = [key for edge in edges for key in (keys.delayed(edge.name), keys.delayed_bodies(edge.name))]
            most = [_MOST_LOOKED_AT if edge.target in found else _MOST_UNCOUNTED for edge in edges]
            (reply,) = yield [ScriptCall(scripts.DELAYED_FAILURES, names, most)]
            delayed = [
                (moment_in(due_ms), edge.target, raw)
                for edge, each in zip(edges, reply, strict=True)
                for due_ms, raw in zip(each[::2], each[1::2], strict=True)
            ]
            for due_ms, stage, raw in sorted(delayed):
                _add(found.setdefault(stage, {}), plan.stage(stage), raw, due_ms - snapshot.now_ms)
        return {stage: sorted(errors.values(), key=_frequency) for stage, errors in found.items() if errors}


def _counted(counted: FailureCount) -> RetriedError:
    return RetriedError(counted.kind, counted.error, counted.place, counted.count)


def _frequency(error: RetriedError) -> tuple[int, int]:
    return -error.delayed, -error.retries


def _add(errors: dict[str, RetriedError], stage: StagePlan, raw: bytes, ms: int) -> None:
    """Add a delayed message with this header, due in so many milliseconds: no earlier than those added before."""
    try:
        header = Header.decode(raw)
    except ValueError:  # written by another program
        return
    if not (failures := failures_of(header)):
        return
    last = failures[-1]
    known = errors.get(last.kind) or errors.get(OTHER) or RetriedError(last.kind, last.error, last.place, 0)
    if not known.delayed:
        waits_for_others = stage.rate is not None and ms > _QUEUED_MS
        known = replace(
            known,
            attempt=header.attempt,
            attempts=stage.retry.attempts,
            next_try_seconds=None if waits_for_others else max(0, ms) / 1000,
        )
    errors[known.kind] = replace(known, delayed=known.delayed + 1)
