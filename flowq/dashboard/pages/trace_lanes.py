"""What a message went through, as spans of time: it waited, was delayed, ran or failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from flowq.broker.inspection.browse import State
from flowq.broker.inspection.family import Found
from flowq.durations import duration_text

LANE = 1000  # how wide a lane is drawn; the page stretches it
_TICK = 6  # so that what took no time is still visible
_HEIGHTS = {"wait": (15, 2), "hold": (14, 4), "run": (10, 12), "fail": (10, 12), "live": (10, 12)}

Kind = Literal["wait", "hold", "run", "fail", "live"]


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the life of a message; `live` runs now. Ends where it begins if it took no known time."""

    kind: Kind
    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True)
class Bar:
    """A span as it is drawn."""

    kind: Kind
    x: float
    width: float
    y: int
    height: int


@dataclass(frozen=True, slots=True)
class Lane:
    """The bars of a message, and the same in words."""

    bars: Sequence[Bar]
    words: str


def spans_of(found: Found, failed_ms: Sequence[int], now_ms: int) -> list[Span]:
    """The spans of a message in one place, as far as they are known.

    `failed_ms`: when its attempts failed, that of which it died included. A message that was settled and kept, and
    never delayed, is known from its end only.
    """
    end: dict[State, tuple[Kind, int]] = {
        State.WAITING: ("wait", now_ms),
        State.RUNNING: ("live", found.started_ms or now_ms),
        State.DELAYED: ("hold", now_ms),
        State.DEAD: ("fail", found.at_ms),
        State.DONE: ("run", found.at_ms),
        State.IN_TRANSIT: ("wait", now_ms),
    }
    kind, at_ms = end[found.state]
    marks = [ms for ms in failed_ms if ms < at_ms]
    begin = min(found.appended_ms or at_ms, *marks, at_ms)
    spans = [Span("wait", begin, marks[0] if marks else at_ms)]
    for failed, following in pairwise((*marks, at_ms)):
        # When a delayed message was due is not kept: what waits now was delayed at first.
        then: Kind = "wait" if kind == "wait" and following == at_ms else "hold"
        spans += [Span("fail", failed, failed), Span(then, failed, following)]
    if kind == "hold" and not marks:
        spans = [Span("hold", begin, at_ms)]
    return spans if kind in ("wait", "hold") else [*spans, Span(kind, at_ms, now_ms if kind == "live" else at_ms)]


def lane_of(spans: Sequence[Span], begin_ms: int, end_ms: int) -> Lane:
    """The spans of a message, drawn between two moments."""
    scale = LANE / max(1, end_ms - begin_ms)
    bars: list[Bar] = []
    for span in spans:
        x, width = (span.from_ms - begin_ms) * scale, (span.to_ms - span.from_ms) * scale
        if span.kind in ("wait", "hold") and width < 1:
            continue
        width = max(width, _TICK if span.kind not in ("wait", "hold") else 1)
        y, height = _HEIGHTS[span.kind]
        bars.append(Bar(span.kind, round(max(0.0, min(x, LANE - width)), 1), round(min(width, LANE), 1), y, height))
    return Lane(bars, ", ".join(filter(None, map(_words, spans))) or "not known")


def _words(span: Span) -> str:
    took = duration_text((span.to_ms - span.from_ms) / 1000)
    match span.kind:
        case "wait":
            return f"waited {took}" if span.to_ms > span.from_ms else ""
        case "hold":
            return f"delayed {took}" if span.to_ms > span.from_ms else ""
        case "run":
            return "settled"
        case "fail":
            return "failed"
        case "live":
            return f"has been running for {took}"
