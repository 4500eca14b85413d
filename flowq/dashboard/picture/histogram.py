"""How long the handler of a stage takes, as bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from flowq.broker.inspection.throughput import bounds_of
from flowq.durations import duration_text

WIDTH, HEIGHT = 360.0, 63.0
_MOST_BARS = 24
_LEAST_BARS = 12  # fewer bars would be too wide
_LEAST_HEIGHT = 1.5
_GAP = 2.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its sides in pixels, and "p50" or "p95" if that duration is in it, else "bar"."""

    x: float
    y: float
    width: float
    height: float
    look: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """The bars from left to right, and the durations at their ends, at equal distances."""

    bars: tuple[Bar, ...]
    ticks: tuple[str, ...]


def histogram(durations: Mapping[int, int], p50_seconds: float | None, p95_seconds: float | None) -> Histogram | None:
    """The histogram of durations by bucket; None without any. Of a wide range several buckets share a bar.

    >>> from flowq.broker.inspection.throughput import bucket_of
    >>> found = histogram({bucket_of(0.010): 90, bucket_of(2.0): 10}, 0.0101, 1.95)
    >>> [bar.look for bar in found.bars if bar.look != "bar"], found.ticks[0], found.ticks[-1]
    (['p50', 'p95'], '9ms', '2.4s')
    """
    counted = {bucket: n for bucket, n in durations.items() if n > 0}
    if not counted:
        return None
    first, last = min(counted), max(counted)
    each = -(-(last - first + 1) // _MOST_BARS)
    n_bars = max(_LEAST_BARS, -(-(last - first + 1) // each))
    first -= (n_bars * each - (last - first + 1)) // 2
    counts = [sum(counted.get(first + bar * each + part, 0) for part in range(each)) for bar in range(n_bars)]
    starts = [bounds_of(first + bar * each)[0] for bar in range(n_bars + 1)]
    looks = [_look(low, high, p50_seconds, p95_seconds) for low, high in pairwise(starts)]
    across, most = WIDTH / n_bars, max(counts)
    heights = [max(_LEAST_HEIGHT, n / most * (HEIGHT - 8)) for n in counts]
    bars = tuple(
        Bar(round(bar * across, 1), round(HEIGHT - height, 1), round(across - _GAP, 1), round(height, 1), looks[bar])
        for bar, height in enumerate(heights)
    )
    return Histogram(bars, tuple(duration_text(starts[round(n_bars * part / 4)]) for part in range(5)))


def _look(low: float, high: float, p50_seconds: float | None, p95_seconds: float | None) -> str:
    if p95_seconds is not None and low <= p95_seconds < high:
        return "p95"
    return "p50" if p50_seconds is not None and low <= p50_seconds < high else "bar"
