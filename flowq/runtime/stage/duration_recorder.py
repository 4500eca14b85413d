"""Measures the durations of handlers, and records them in Redis every other second."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from flowq.broker.inspection.throughput import bucket_of, record_throughput
from flowq.broker.redis_streams import Broker

_EVERY_SECONDS = 2.0
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


class ThroughputKeeper:
    """Records the stopwatches of a process."""

    def __init__(self, broker: Broker, stopwatches: Mapping[str, Stopwatch]) -> None:
        self._broker = broker
        self._stopwatches = stopwatches

    async def run(self) -> None:
        while True:
            taken = {stage: stopwatch.take() for stage, stopwatch in self._stopwatches.items()}
            await record_throughput(self._broker, taken)
            await asyncio.sleep(_EVERY_SECONDS)
