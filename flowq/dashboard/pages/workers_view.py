"""Workers as their page shows them: values in, texts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flowq.broker.inspection.dead_workers import DeadWorker
from flowq.broker.inspection.overview import Overview
from flowq.broker.inspection.pacing_keys import HeldKey
from flowq.broker.inspection.worker_overview import WorkerOverview
from flowq.dashboard.pages.times import Time, time_at
from flowq.durations import duration_text
from flowq.wording.cause_words import FOREVER_SECONDS
from flowq.wording.quantities import counted, span_words

_MOST_BOXES, _STEP, _BOX = 32, 12, 10


@dataclass(frozen=True, slots=True)
class Box:
    """A slot in a row; `on` while a message runs in it. Of many slots, one box is all of them, and one those `on`."""

    x: float
    width: float
    on: bool


@dataclass(frozen=True, slots=True)
class SlotRow:
    """The slots of a worker in one stage."""

    stage: str
    text: str
    boxes: Sequence[Box]

    @property
    def width(self) -> float:
        return max((box.x + box.width for box in self.boxes), default=_BOX)


@dataclass(frozen=True, slots=True)
class CrewMember:
    """A live worker. `state` is one of a cause, with its icon and colour."""

    name: str
    state: str
    text: str
    figures: Sequence[tuple[str, str]]
    rows: Sequence[SlotRow]


@dataclass(frozen=True, slots=True)
class GoneMember:
    """A worker that died within a day; `at` is None while no other worker has noticed."""

    name: str
    at: Time | None
    how: str
    figures: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A pacing key on hold."""

    stage: str
    key: str
    name: str
    text: str
    left: str


def crew_of(overview: Overview) -> list[CrewMember]:
    """The live workers, by name."""
    return [_member(worker) for worker in overview.workers.values()]


def gone_of(overview: Overview, now: datetime) -> list[GoneMember]:
    """Those that died within a day, the latest first."""
    return [
        GoneMember(
            worker.name,
            None if worker.at_ms is None else time_at(worker.at_ms, now),
            worker.how if worker.how.startswith("died") else f"died: {worker.how or 'reason unknown'}",
            _who(worker),
        )
        for worker in overview.dead_workers
    ]


def summary_of(overview: Overview) -> str:
    """All workers in one line."""
    n_slots = sum(n for worker in overview.workers.values() for n in worker.slots.values())
    parts = [f"{len(overview.workers):,} alive"]
    if overview.dead_workers:
        parts.append(f"{len(overview.dead_workers):,} died in the last day")
    return " · ".join((*parts, f"{counted(n_slots, 'slot')} in all"))


def held_row(held: HeldKey) -> HeldRow:
    """A pacing key on hold, in words."""
    again = f"held {counted(held.repeats + 1, 'time')} in a row" if held.repeats else ""
    text = " · ".join(filter(None, (held.reason, f"{held.waiting:,} waiting", again)))
    left = f"{span_words(held.seconds_left)} left" if held.seconds_left else "trying one message"
    if held.seconds_left > FOREVER_SECONDS:
        left = "until it is resumed"
    return HeldRow(held.stage, held.key, held.key or "the whole stage", text, left)


def _member(worker: WorkerOverview) -> CrewMember:
    rows = [_row(worker, stage) for stage in worker.stages if stage in worker.slots or stage in worker.running]
    state, text = _state(worker)
    return CrewMember(worker.name, state, text, _figures(worker), rows)


def _state(worker: WorkerOverview) -> tuple[str, str]:
    if worker.is_silent:
        return "alone", f"has read nothing from Redis for {duration_text(worker.silent_seconds)}"
    if not (has := sum(worker.running.values())):
        return "idle", "nothing to do"
    if worker.in_handler is None:  # it does not report that
        return "ok", f"{has:,} running"
    running = sum(worker.in_handler.values())
    return "ok", f"{running:,} running" + (f", {has - running:,} read ahead" if has > running else "")


def _row(worker: WorkerOverview, stage: str) -> SlotRow:
    slots, has = worker.slots.get(stage, 0), worker.running.get(stage, 0)
    busy = min(slots, has) if worker.in_handler is None else worker.in_handler.get(stage, 0)
    ahead = f" +{has - busy:,}" if has > busy else ""
    text = f"{busy:,} of {slots:,}{ahead}" if slots else f"{has:,} running"
    if slots <= _MOST_BOXES:
        return SlotRow(stage, text, [Box(i * _STEP, _BOX, i < busy) for i in range(slots)])
    whole = _MOST_BOXES * _STEP - (_STEP - _BOX)
    full = round(whole * min(1.0, busy / slots), 1)
    return SlotRow(stage, text, [Box(0, whole, on=False), *([Box(0, full, on=True)] if full else [])])


def _figures(worker: WorkerOverview) -> list[tuple[str, str]]:
    up = worker.uptime_seconds
    lease, left = worker.lease_seconds, worker.lease_left_seconds
    whole = duration_text(lease) if lease is not None else "–"
    return [
        *_who(worker),
        ("up", duration_text(up) if up is not None else "–"),
        ("flowq", worker.version or "–"),
        ("lease", f"{duration_text(max(0.0, left))} of {whole}" if left is not None else whole),
    ]


def _who(worker: WorkerOverview | DeadWorker) -> list[tuple[str, str]]:
    return [("host", worker.host or "–"), ("pid", f"{worker.pid}" if worker.pid else "–")]
