"""Why a stage is as fast as it is: paused, held back by the next one, on hold, paced, busy, or keeping up. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_SLOW_PER_SECOND = 1.0
_MANY_PACED, _MANY_WAITING = 20, 200
_LONG_SECONDS = 10.0
_BUSY_SHARE = 0.9


class CauseKind(StrEnum):
    """What limits the speed of a stage. If several apply, the first in this order."""

    PAUSED = "paused"
    HELD_BACK = "held_back"  # an edge that it feeds is full
    NO_WORKER = "no_worker"
    ON_HOLD = "on_hold"  # pacing keys are held
    PACED = "paced"  # by its rate
    BUSY = "busy"
    READING = "reading"  # a source that yields
    KEEPS_UP = "keeps_up"
    IDLE = "idle"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a stage is as fast as it is.

    by: the stage whose edge is full; only for `HELD_BACK`.
    keys: the held pacing keys of the stage, in the order of their release, whatever the cause.
    seconds: how long that first hold lasts; None without one.
    running, slots: how many slots are in use, and how many there are, if nearly all are in use; only for `BUSY`.
    """

    kind: CauseKind
    by: str = ""
    keys: tuple[str, ...] = ()
    seconds: float | None = None
    running: int | None = None
    slots: int = 0

    def as_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "kind": self.kind.value,
            "by": self.by or None,
            "keys": list(self.keys),
            "seconds": None if self.seconds is None else round(self.seconds, 1),
        }


@dataclass(frozen=True, slots=True)
class Situation:
    """What the cause of a stage depends on.

    full: the stages whose edges are full, the fullest first. holds: the held pacing keys and their seconds.
    rate: messages settled per second, None if unknown. running: how many messages handlers have; None if unknown.
    is_over: nothing is left in the whole pipeline, and no source is open. has_run: the pipeline has run at some time.
    is_open, is_finished: of a source in this run.
    """

    is_source: bool = False
    is_open: bool = False
    is_finished: bool = False
    is_paused: bool = False
    is_rated: bool = False
    is_over: bool = False
    has_run: bool = False
    full: tuple[str, ...] = ()
    holds: tuple[tuple[str, float], ...] = ()
    workers: int = 0
    rate: float | None = None
    waiting: int = 0
    delayed: int = 0
    running: int | None = 0
    slots: int = 0

    @property
    def fills_slots(self) -> bool:
        """Whether nearly all slots have a message in their handler."""
        return self.running is not None and 0 < self.slots * _BUSY_SHARE <= self.running

    @property
    def is_paced(self) -> bool:
        """Whether messages wait for their turn rather than for a slot."""
        held_up = self.delayed if self.fills_slots else max(self.delayed, self.waiting)
        return self.is_rated and held_up > _MANY_PACED

    @property
    def is_behind(self) -> bool:
        """Whether so many messages wait, or for so long, that the stage does not keep up."""
        return self.waiting > max(1, min(_MANY_WAITING, _LONG_SECONDS * self.rate if self.rate else _MANY_WAITING))


def cause_of(now: Situation) -> Cause:
    """The first cause that applies.

    >>> cause_of(Situation(workers=1, full=("store",))).by
    'store'
    >>> cause_of(Situation(workers=1, waiting=5, running=2, slots=20)).kind.value
    'keeps_up'
    """
    holds = sorted(now.holds, key=lambda hold: hold[1])
    kind = _of_source(now) if now.is_source else _of_consumer(now)
    tells_slots = kind is CauseKind.BUSY and now.fills_slots
    return Cause(
        kind,
        by=now.full[0] if kind is CauseKind.HELD_BACK else "",
        keys=tuple(key for key, _ in holds),
        seconds=holds[0][1] if holds else None,
        running=now.running if tells_slots else None,
        slots=now.slots if tells_slots else 0,
    )


def _of_source(now: Situation) -> CauseKind:
    if now.is_finished:
        return CauseKind.DONE
    if now.is_paused:
        return CauseKind.PAUSED
    if not now.is_open:
        return CauseKind.IDLE
    if now.full:
        return CauseKind.HELD_BACK
    return CauseKind.READING if now.workers else CauseKind.NO_WORKER


def _of_consumer(now: Situation) -> CauseKind:
    if now.is_paused:
        return CauseKind.PAUSED
    if now.is_over and not now.workers:
        return CauseKind.DONE if now.has_run else CauseKind.IDLE
    return next(kind for kind, applies in _consumer_causes(now) if applies)


def _consumer_causes(now: Situation) -> Iterable[tuple[CauseKind, bool]]:
    yield CauseKind.HELD_BACK, bool(now.full)
    yield CauseKind.NO_WORKER, not now.workers
    yield CauseKind.ON_HOLD, bool(now.holds) and (now.rate or 0) < _SLOW_PER_SECOND
    yield CauseKind.PACED, now.is_paced
    yield CauseKind.BUSY, now.fills_slots or now.is_behind
    yield CauseKind.KEEPS_UP, bool(now.rate or now.waiting or now.delayed or now.running)
    yield CauseKind.IDLE, True
