"""Records the durations of handlers in Redis every other second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flowq.broker.inspection.throughput import Throughputs
from flowq.broker.redis_streams import Broker
from flowq.runtime.stage.consumer import Consumer

_EVERY_SECONDS = 2.0


class ThroughputRecorder:
    """Records what the consumers of a process have measured."""

    name = "throughput recorder"

    def __init__(self, broker: Broker, consumers: Sequence[Consumer]) -> None:
        self._broker = broker
        self._consumers = consumers

    async def step(self) -> float:
        measured: dict[str, Counter[int]] = {}
        for consumer in self._consumers:
            measured[consumer.stage.name], consumer.durations = consumer.durations, Counter()
        await Throughputs(self._broker).record(measured)
        return _EVERY_SECONDS
