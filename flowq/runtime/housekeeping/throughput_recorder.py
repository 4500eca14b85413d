"""Records in Redis how long handlers take, how many messages are in them, and how many on each edge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flowq.broker.inspection.throughput import Throughputs
from flowq.broker.redis_streams import Broker
from flowq.runtime.identity import Identity
from flowq.runtime.stage.consumer import Consumer

_EVERY_SECONDS = 1.0
_COUNTS_EVERY = 5  # steps: about once in a period


class ThroughputRecorder:
    """Records what the consumers of a process have measured."""

    name = "throughput recorder"

    def __init__(
        self, broker: Broker, consumers: Sequence[Consumer], identity: Identity, *, edges: Sequence[str]
    ) -> None:
        self._broker = broker
        self._edges = edges
        self._n_steps = 0
        self._consumers = consumers
        self._identity = identity

    async def step(self) -> float:
        measured: dict[str, Counter[int]] = {}
        for consumer in self._consumers:
            measured[consumer.stage.name], consumer.durations = consumer.durations, Counter()
        in_handlers = {each.stage.name: n for each in self._consumers if (n := each.n_in_handlers)}
        edges = self._edges if self._n_steps % _COUNTS_EVERY == 0 else ()
        self._n_steps += 1
        worker = self._identity.worker
        await Throughputs(self._broker).record(measured, worker=worker, in_handlers=in_handlers, edges=edges)
        return _EVERY_SECONDS
