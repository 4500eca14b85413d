"""Measures the durations of handlers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from flowq.broker.inspection.throughput import bucket_of

ONE_IN = 8
"""Of the calls that a slot makes without waiting in between, every eighth is measured."""


class Stopwatch:
    """The durations of one stage's handler in this process, until they are taken."""

    def __init__(self) -> None:
        self._counts: defaultdict[int, int] = defaultdict(int)

    def add(self, seconds: float) -> None:
        """Count one call."""
        self._counts[bucket_of(seconds)] += 1

    def take(self) -> Mapping[int, int]:
        """The counts so far; counting starts over."""
        counts, self._counts = self._counts, defaultdict(int)
        return counts
