"""Causes and forecasts in words, and the name of their icon and colour."""

from __future__ import annotations

from collections.abc import Mapping

from flowq.broker.inspection.causes import Cause, CauseKind
from flowq.broker.inspection.forecasts import Forecast
from flowq.broker.inspection.overview import Overview
from flowq.broker.inspection.pacing_keys import HeldKey
from flowq.printable import printable
from flowq.wording.quantities import counted, rate_words, span_words

STATES: Mapping[CauseKind, str] = {
    CauseKind.PAUSED: "paused",
    CauseKind.HELD_BACK: "blocked",
    CauseKind.NO_WORKER: "alone",
    CauseKind.ON_HOLD: "held",
    CauseKind.PACED: "paced",
    CauseKind.BUSY: "busy",
    CauseKind.READING: "reading",
    CauseKind.KEEPS_UP: "ok",
    CauseKind.IDLE: "idle",
    CauseKind.DONE: "done",
}
"""The name of the colour and icon of a cause."""

FOREVER_SECONDS = 365 * 86_400  # a key that was paused by hand is held for longer
_MOST_KEYS = 3  # that a sentence names


def cause_word(cause: Cause) -> str:
    """A cause in one or two words, the same for all causes of one kind.

    >>> cause_word(Cause(CauseKind.HELD_BACK, by="store"))
    'held back'
    """
    return cause.kind.value.replace("_", " ")


def cause_line(cause: Cause) -> str:
    """A cause with what it is due to, for a card or a row.

    >>> cause_line(Cause(CauseKind.HELD_BACK, by="store"))
    'held back by store'
    >>> cause_line(Cause(CauseKind.BUSY, running=2, slots=2))
    'busy, 2 of 2 slots'
    >>> cause_line(Cause(CauseKind.ON_HOLD, keys=("a.test", "b.test"), seconds=19.2))
    '2 on hold, 19 s left'
    >>> cause_line(Cause(CauseKind.PACED, keys=("a.test",), seconds=19.2))
    '1 on hold, others paced'
    """
    held = f"{len(cause.keys)} on hold" if cause.keys != ("",) else "on hold"
    match cause.kind:
        case CauseKind.HELD_BACK:
            return f"held back by {cause.by}"
        case CauseKind.ON_HOLD:
            return f"{held}{_until(cause.seconds)}"
        case CauseKind.PACED if cause.keys and cause.keys != ("",):
            return f"{held}, others paced"
        case CauseKind.BUSY if cause.running is not None:
            return f"busy, {cause.running:,} of {counted(cause.slots, 'slot')}"
        case _:
            return cause_word(cause)


def _until(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds > FOREVER_SECONDS:
        return " until resumed"
    return f", {span_words(seconds)} left" if seconds else ", trying one"


def hold_words(held: HeldKey) -> str:
    """What is known of one pacing key on hold.

    >>> hold_words(HeldKey("fetch", "a.test", "HTTP 429", 18.7, 2, 118))
    'on hold for another 19 s, HTTP 429, held 3 times; 118 waiting'
    >>> hold_words(HeldKey("fetch", "a.test", "paused", 3e8, 0, 0))
    'on hold until it is resumed'
    """
    waiting = f"; {held.waiting:,} waiting" if held.waiting else ""
    if held.seconds_left > FOREVER_SECONDS:
        return f"on hold until it is resumed{waiting}"
    until = f"for another {span_words(held.seconds_left)}" if held.seconds_left else "while one message is tried"
    why = f", {printable(held.reason)}" if held.reason else ""
    again = f", held {counted(held.repeats + 1, 'time')}" if held.repeats else ""
    return f"on hold {until}{why}{again}{waiting}"


def forecast_words(forecast: Forecast) -> str:
    """What becomes of an edge.

    >>> from flowq.broker.inspection.forecasts import ForecastKind
    >>> forecast_words(Forecast(ForecastKind.FULL_IN, 240.0)), forecast_words(Forecast(ForecastKind.STALLED))
    ('full in 4 min', 'stalled')
    """
    word = forecast.kind.value.replace("_", " ")
    return word if forecast.seconds is None else f"{word} {span_words(forecast.seconds)}"


def stage_sentence(overview: Overview, stage: str) -> str:
    """A stage in one sentence that begins with its name, for a screen reader or a tooltip."""
    view, cause = overview.stages[stage], overview.causes[stage]
    parts = [cause_line(cause)]
    if cause.keys and any(cause.keys):
        keys = ", ".join(printable(key) for key in cause.keys[:_MOST_KEYS])
        parts[0] += f" ({keys})" if "on hold" in parts[0] else f", on hold: {keys}"
    if view.throughput.per_second:
        parts.append(rate_words(view.throughput.per_second))
    if view.balance.waiting:
        parts.append(f"{view.balance.waiting:,} waiting")
    if view.dead_letters:
        parts.append(counted(view.dead_letters, "dead letter"))
    return f"{stage}: {', '.join(parts)}"
