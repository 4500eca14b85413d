"""Records the durations of handlers in Redis every other second."""

from __future__ import annotations

from collections.abc import Mapping

from flowq.broker.inspection.throughput import Throughputs
from flowq.broker.redis_streams import Broker
from flowq.runtime.stage.stopwatch import Stopwatch

_EVERY_SECONDS = 2.0


class ThroughputRecorder:
    """Records the stopwatches of a process."""

    name = "throughput recorder"

    def __init__(self, broker: Broker, stopwatches: Mapping[str, Stopwatch]) -> None:
        self._broker = broker
        self._stopwatches = stopwatches

    async def step(self) -> float:
        taken = {stage: stopwatch.take() for stage, stopwatch in self._stopwatches.items()}
        await Throughputs(self._broker).record(taken)
        return _EVERY_SECONDS
