"""The slots of a stage: every text and attribute that the page shows of it."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.broker.inspection.overview import Overview, StageOverview
from flowq.broker.runs import StageBalance
from flowq.dashboard.live.shapes import SPARKS, USE_WIDTH, area, first_that_fits, length, small_in, trend
from flowq.durations import duration_text
from flowq.graph.compilation.plan import StagePlan
from flowq.wording.cause_words import STATES, cause_line, cause_word, stage_sentence
from flowq.wording.quantities import compact, rate_words, size

UNKNOWN = "–"
_ROOM_FOR_CAUSE, _ROOM_FOR_RUNNING = 146.0, 74.0
_WIDEST_RATE = 9_999.5
_MOST_DIGITS = 9_999


def stage_slots(
    overview: Overview, stage: StagePlan, neck: str | None, rates: Sequence[float | None], *, is_small: bool
) -> dict[str, str]:
    """The slots of one stage without their prefix.

    neck: the bottleneck. rates: what it settled per second, one value for each step of a trend, the latest last.
    is_small: it has a small card, without figures.
    """
    view, cause = overview.stages[stage.name], overview.causes[stage.name]
    state, line = STATES[cause.kind], cause_line(cause)
    texts = {
        "state": state,
        "icon": f"#i-{state}",
        "neck": _yes(stage.name == neck),
        "mortal": _yes(view.dead_letters > 0),
        "label": stage_sentence(overview, stage.name),
        "why": line,
        "rate": _rate(overview, stage, view),
        "in": f"{view.balance.entered:,}",
        "ok": f"{view.balance.ok:,}",
        "letters": f"{view.dead_letters:,}",
    }
    if not stage.is_source:
        texts |= _of_consumer(view)
    if is_small:
        texts["word"] = cause_word(cause)
        return texts
    texts |= {
        "brief": small_in(_ROOM_FOR_CAUSE, line),
        "spark": (spark := trend([*[None] * (SPARKS - len(rates)), *rates[-SPARKS:]])),
        "area": area(spark),
        "dead_letters": _small(view.dead_letters),
    }
    if not stage.is_source:
        texts |= {"few_retries": _small(view.balance.retries), "use": _use(view), "slots": _slots(view)}
    return texts


def _of_consumer(view: StageOverview) -> dict[str, str]:
    balance, speed = view.balance, view.throughput
    return {
        "filtered": f"{balance.filtered:,}",
        "dead": f"{balance.dead:,}",
        "purged": f"{balance.purged:,}",
        "purged.level": "some" if balance.purged else "none",
        "waiting": f"{balance.waiting:,}",
        "delayed": f"{balance.delayed:,}",
        "running": f"{balance.running:,}",
        "retries": f"{balance.retries:,}",
        "seen": f"{balance.duplicates:,}",
        "p50": duration(speed.p50_seconds),
        "p95": duration(speed.p95_seconds),
        "oldest": duration(view.waiting_seconds),
        "workers": f"{view.workers:,}",
        "memory": size(view.memory_bytes),
        "sum": sum_words(balance),
        "sum.state": "ok" if balance.adds_up else "dead",
        "sum.icon": "#i-ok" if balance.adds_up else "#i-alone",
    }


def sum_words(*balances: StageBalance) -> str:
    """Whether what came in is accounted for."""
    missing = sum(abs(off_by(balance)) for balance in balances)
    return f"off by {missing:,}" if missing else "adds up"


def off_by(balance: StageBalance) -> int:
    """How many messages that came in are not accounted for; negative if more are."""
    return balance.entered - balance.ok - balance.filtered - balance.dead - balance.purged - balance.outstanding


def duration(seconds: float | None) -> str:
    """A duration, if it is known."""
    return UNKNOWN if seconds is None else duration_text(seconds)


def rate(per_second: float | None) -> str:
    """A rate in at most seven characters, if it is known."""
    if per_second is None:
        return UNKNOWN
    return f"{compact(round(per_second))}/s" if per_second >= _WIDEST_RATE else rate_words(per_second)


def _rate(overview: Overview, stage: StagePlan, view: StageOverview) -> str:
    if stage.is_source and STATES[overview.causes[stage.name].kind] == "done":
        return "done"
    return rate(view.throughput.per_second) if overview.workers else UNKNOWN


def _slots(view: StageOverview) -> str:
    """How many slots work, of how many, and what has been read ahead: on a card, so as much of it as fits."""
    if view.in_handler is None or not view.slots:
        return compact(view.balance.running)
    used = f"{compact(view.in_handler)} of {compact(view.slots)}"
    ahead = [f"{used} +{compact(view.read_ahead)}"] if view.read_ahead else []
    return first_that_fits(_ROOM_FOR_RUNNING, *ahead, used, compact(view.in_handler))


def _use(view: StageOverview) -> str:
    running = view.balance.running if view.in_handler is None else view.in_handler
    return length(running / view.slots if view.slots else 0.0, USE_WIDTH)


def _small(n: int) -> str:
    return f"{n:,}" if n <= _MOST_DIGITS else compact(n)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
