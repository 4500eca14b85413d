"""What the cause of a stage means, and what would change it, in a few sentences."""

from __future__ import annotations

from flowq.broker.inspection.causes import Cause, CauseKind
from flowq.broker.inspection.overview import Overview
from flowq.broker.records import WHOLE
from flowq.delivery.policy import Rate
from flowq.graph.compilation.plan import StagePlan
from flowq.graph.render.labels import key_name
from flowq.printable import printable
from flowq.wording.cause_words import FOREVER_SECONDS
from flowq.wording.quantities import counted, span_words

_PERIODS = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86_400.0: "day"}


def advice(overview: Overview, stage: StagePlan) -> str:
    """Why a stage is as fast as it is."""
    cause, balance = overview.causes[stage.name], overview.stages[stage.name].balance
    match cause.kind:
        case CauseKind.PAUSED:
            return _paused(overview, stage)
        case CauseKind.HELD_BACK:
            itself = f"Nothing is wrong with {stage.name} itself"
            return f"{itself}: the edge to {cause.by} is full. It resumes as soon as {cause.by} has made room."
        case CauseKind.NO_WORKER:
            return f"No live worker runs it: {counted(balance.outstanding, 'message')} left. Start one with flowq run."
        case CauseKind.ON_HOLD:
            return f"Nothing is wrong with {stage.name} itself: {_holds(cause)}."
        case CauseKind.PACED if stage.rate is not None:
            holds = f", and {_holds(cause)}" if cause.keys else ""
            return f"Nothing is wrong with {stage.name} itself: {_pace(stage.rate)}{holds}."
        case CauseKind.BUSY:
            return _busy(overview, stage, cause)
        case CauseKind.READING:
            return f"It has yielded {counted(balance.out, 'message')} so far and is still reading."
        case CauseKind.DONE if stage.is_source:
            return f"It has yielded everything: {counted(balance.out, 'message')}."
        case CauseKind.DONE:
            return "The run is over, and every message has been handled."
        case CauseKind.IDLE:
            return "It has nothing to do at the moment."
        case _:
            return "It handles messages as fast as they arrive."


def _paused(overview: Overview, stage: StagePlan) -> str:
    paused = overview.snapshot.paused
    since_ms = paused.get(stage.name, paused.get(WHOLE, overview.now_ms))
    ago = span_words(max(0, overview.now_ms - since_ms) / 1000)
    what = "It" if stage.name in paused else f"All of {overview.plan.name}"
    return f"{what} was paused {ago} ago. Until it is resumed, its messages wait, across restarts too."


def _busy(overview: Overview, stage: StagePlan, cause: Cause) -> str:
    n = overview.stages[stage.name].balance.waiting
    waiting = f"{counted(n, 'message')} {'waits' if n == 1 else 'wait'}"
    used = "" if cause.running is None else f"{cause.running:,} of {counted(cause.slots, 'slot')} are in use, and "
    more = "More workers or a higher concurrency make it faster, as long as the machine and what it calls can keep up."
    return f"{used}{waiting}. {more}"


def _pace(rate: Rate) -> str:
    pace = f"{rate.n:g} per {_PERIODS[rate.per]}" if rate.per in _PERIODS else f"{rate.n:g} per {rate.per:g} seconds"
    return f"its rate is {pace}" + (f" for each {printable(key_name(rate.by))}" if rate.by else "")


def _holds(cause: Cause) -> str:
    keys = [key for key in cause.keys if key]
    if not keys:
        what = "a handler has put it on hold"
    elif len(keys) == 1:
        what = f"{printable(keys[0])} is on hold"
    else:
        what = f"{len(keys)} keys are on hold, such as {printable(keys[0])}"
    left = f" for another {span_words(cause.seconds)}" if cause.seconds and cause.seconds < FOREVER_SECONDS else ""
    return f"{what}{left}"
