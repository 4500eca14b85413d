"""When an edge will be full or empty if the trend of the last half minute continues. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_LOOKS_BACK_MS = 30_000
_SHORTEST_MS = 8_000
_FULL_WITHIN_SECONDS, _EMPTY_WITHIN_SECONDS = 2 * 3600, 10 * 3600
_FEWEST_LEVELS = 3
_SCATTERS = 2  # a change must be this many times as large as the distance of the levels from their line

Level = tuple[int, int]
"""A time in ms, and how many messages an edge held then."""


class ForecastKind(StrEnum):
    """Where the level of an edge is heading."""

    FULL = "full"
    FULL_IN = "full_in"
    EMPTY = "empty"
    EMPTY_IN = "empty_in"
    GROWING = "growing"  # full in more than two hours, or never
    SHRINKING = "shrinking"  # empty in more than ten hours
    STEADY = "steady"
    STALLED = "stalled"  # it holds messages, and none of them moves


@dataclass(frozen=True, slots=True)
class Forecast:
    """The forecast of an edge. `seconds`: until then, for `FULL_IN` and `EMPTY_IN`."""

    kind: ForecastKind
    seconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"kind": self.kind.value, "seconds": None if self.seconds is None else round(self.seconds, 1)}


def forecast_of(levels: Sequence[Level], *, capacity: float, is_full: bool, moves: bool) -> Forecast | None:
    """The forecast of an edge with these levels, the last of them now; None if there are fewer than three, or they
    cover less than 8 seconds.

    capacity: how many messages it has room for. is_full: it holds back what feeds it. moves: its stage settles
    something, or may do so.

    >>> filling = [(0, 100), (5_000, 150), (10_000, 200)]
    >>> forecast_of(filling, capacity=1000, is_full=False, moves=True)
    Forecast(kind=<ForecastKind.FULL_IN: 'full_in'>, seconds=80.0)
    """
    if is_full:
        return Forecast(ForecastKind.FULL)
    now_ms, held = levels[-1]
    if not held:
        return Forecast(ForecastKind.EMPTY)
    recent = [level for level in levels if now_ms - _LOOKS_BACK_MS <= level[0] <= now_ms]
    if len(recent) < _FEWEST_LEVELS or now_ms - recent[0][0] < _SHORTEST_MS:
        return None
    per_second = _slope(recent)
    if per_second > 0:
        seconds = max(0.0, capacity - held) / per_second
        return Forecast(ForecastKind.FULL_IN, seconds) if seconds < _FULL_WITHIN_SECONDS else _GROWING
    if per_second < 0:
        seconds = held / -per_second
        return Forecast(ForecastKind.EMPTY_IN, seconds) if seconds < _EMPTY_WITHIN_SECONDS else _SHRINKING
    return Forecast(ForecastKind.STEADY if moves else ForecastKind.STALLED)


_BY_URGENCY = tuple(ForecastKind(kind) for kind in (
    "full", "full_in", "stalled", "growing", "shrinking", "steady", "empty_in", "empty",
))  # fmt: skip


def most_urgent(forecasts: Iterable[Forecast]) -> Forecast | None:
    """The most urgent of several: full first, or else empty last; None if there are none.

    >>> most_urgent([Forecast(ForecastKind.EMPTY), Forecast(ForecastKind.EMPTY_IN, 9.0)])
    Forecast(kind=<ForecastKind.EMPTY_IN: 'empty_in'>, seconds=9.0)
    """

    def urgency(forecast: Forecast) -> tuple[int, float]:
        seconds = forecast.seconds or 0.0
        return _BY_URGENCY.index(forecast.kind), -seconds if forecast.kind is ForecastKind.EMPTY_IN else seconds

    return min(forecasts, key=urgency, default=None)


_GROWING, _SHRINKING = Forecast(ForecastKind.GROWING), Forecast(ForecastKind.SHRINKING)


def _slope(levels: Sequence[Level]) -> float:
    """The slope per second of the line nearest to the levels; 0 if they scatter about it more than they change.

    Also 0 if the last level goes the other way: a source that has put all its messages on an edge at once is not
    filling it any further.
    """
    n = len(levels)
    middle_ms, middle = sum(ms for ms, _ in levels) / n, sum(held for _, held in levels) / n
    points = [((ms - middle_ms) / 1000, held - middle) for ms, held in levels]
    slope = sum(x * y for x, y in points) / sum(x * x for x, _ in points)
    scatter = math.sqrt(sum((y - slope * x) ** 2 for x, y in points) / n)
    change = abs(slope) * (levels[-1][0] - levels[0][0]) / 1000
    if slope * (levels[-1][1] - levels[-2][1]) < 0:
        return 0.0
    return slope if change > max(_SCATTERS * scatter, 0.5) else 0.0
