"""Numbers as shapes: how long a bar is, how thick a line, how a rate went over time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flowq.graph.compilation.plan import Plan

METER_WIDTH, USE_WIDTH = 96.0, 30.0
SPARK_WIDTH, SPARK_HEIGHT = 156.0, 24.0
SPARKS = 60  # of 15 seconds each
_MOST_CARDS_WITH_FIGURES = 14
_HEADROOM, _FOOT = 1.5, 1.0  # so that half of the line's width is not cut off


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
    """How thick the line of an edge is on which so many messages stand; half of it for feedback, which is dashed.

    >>> thickness(0, feedback=False), thickness(9_999, feedback=False), thickness(9_999, feedback=True)
    ('1.5', '5.5', '3.5')
    """
    more = math.log10(1 + max(0, n))
    return f"{round(1.5 + (more / 2 if feedback else more), 1):g}"


def trend(
    values: Sequence[float], width: float = SPARK_WIDTH, height: float = SPARK_HEIGHT, *, most: int = SPARKS
) -> str:
    """SVG path data of a line through the last `most` values: the highest at the top, 0 at the bottom, the latest at
    the right. With fewer values it begins further right, so that a step is the same time everywhere.

    >>> trend([0, 2, 1], 100, 12.5, most=3)
    'M0 11.5L50 1.5L100 6.5'
    >>> trend([1], 100, 12.5, most=3), trend([], 100, 12.5, most=3)
    ('M100 1.5L100 1.5', 'M100 11.5L100 11.5')
    """
    shown = [max(0.0, value) for value in values[-most:]] or [0.0]
    if len(shown) == 1:
        shown = shown * 2
    step, room, highest = width / (most - 1), height - _HEADROOM - _FOOT, max(shown) or 1.0
    left = width - (len(shown) - 1) * step
    if len(values) < 2:  # one moment is a dot
        left, step = width, 0.0
    points = (
        f"{round(left + number * step, 1):g} {round(height - _FOOT - value / highest * room, 1):g}"
        for number, value in enumerate(shown)
    )
    return "M" + "L".join(points)


def area(line: str, height: float = SPARK_HEIGHT) -> str:
    """SVG path data of what is below a line.

    >>> area("M5 5L10 0", 6)
    'M5 5L10 0V6H5Z'
    """
    left = line[1:].partition(" ")[0]
    return f"{line}V{height:g}H{left}Z"
