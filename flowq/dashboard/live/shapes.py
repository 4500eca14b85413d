"""Numbers as shapes: how long a bar is, how thick a line, a rate over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from flowq.graph.compilation.plan import Plan
from flowq.graph.render.text import clipped, width
from flowq.printable import printable

METER_WIDTH, USE_WIDTH = 96.0, 30.0
SPARK_HEIGHT = 24.0
SPARKS = 60  # of 15 seconds each
HOUR_WIDTH, HOUR_HEIGHT = 118, 34
_MOST_CARDS_WITH_FIGURES = 14
_MARGIN = 1.0  # so that half of the line's width is not cut off

small_width = partial(width, font_size=11.0)


def is_large(plan: Plan) -> bool:
    """Whether a pipeline has too many stages for cards with figures: its graph is small cards, with a map."""
    return len(plan.stages) > _MOST_CARDS_WITH_FIGURES


def length(share: float, of: float) -> str:
    """How long a bar is; a share beyond 1 fills it.

    >>> length(0.25, 96), length(3, 96), length(0, 96)
    ('24', '96', '0')
    """
    return f"{round(min(1.0, max(0.0, share)) * of, 1):g}"


def thickness(n: int, *, feedback: bool) -> str:
    """How thick the line of an edge with so many messages is; half of that for feedback, which is dashed.

    >>> thickness(0, feedback=False), thickness(9_999, feedback=False), thickness(9_999, feedback=True)
    ('1.5', '5.5', '3.5')
    """
    more = math.log10(1 + max(0, n))
    return f"{round(1.5 + (more / 2 if feedback else more), 1):g}"


def trend(values: Sequence[float | None], height: float = SPARK_HEIGHT, width: int | None = None) -> str:
    """SVG path data of a line through values: the highest at the top, 0 at the bottom.

    They are `width` apart in all, else one unit each. Where a value is None the line has a gap. The numbers are whole,
    so that the text is short.

    >>> trend([None, 0, 2, 1], 12), trend([4, 2], 12, 100)
    ('M1 11l1-10 1 5', 'M0 1l100 5')
    """
    highest = max((value for value in values if value is not None), default=0.0) or 1.0
    room, step = height - 2 * _MARGIN, width / max(1, len(values) - 1) if width else 1
    path, joint, before = "", "", None
    for number, value in enumerate(values):
        if value is None:
            before = None
            continue
        x, y = round(number * step), round(height - _MARGIN - max(0.0, value) / highest * room)
        if before is None:
            path, joint = f"{path}M{x} {y}", "l"
        else:
            path, joint = f"{path}{joint}{x - before[0]}{' ' * (y >= before[1])}{y - before[1]}", " "
        before = x, y
    return path


def area(line: str, height: float = SPARK_HEIGHT) -> str:
    """SVG path data of what is below such a line.

    >>> area("M1 11l1-10 1 5M7 3l1 1", 12)
    'M1 11l1-10 1 5V12H1ZM7 3l1 1V12H7Z'
    """
    return "".join(f"M{piece}V{height:g}H{piece.partition(' ')[0]}Z" for piece in line.split("M")[1:])


def small_in(room: float, text: str) -> str:
    """As much of a text as fits into `room` pixels in the smallest size."""
    return clipped(printable(text), room, small_width)


def first_that_fits(room: float, *texts: str) -> str:
    """The first text that fits into `room` pixels in the smallest size, else the last one."""
    return next((text for text in texts if small_width(text) <= room), texts[-1])
