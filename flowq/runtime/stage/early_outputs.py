"""Publishes the outputs of messages that were settled before their handler ended."""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Sequence

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.message_ids import MessageIds
from flowq.broker.publishing import Parcel, Publishing
from flowq.broker.redis_streams import Broker
from flowq.broker.settling import Settling
from flowq.broker.stored_bodies import StoredBodies
from flowq.delivery.chunks import chunks
from flowq.delivery.edge import parse_address
from flowq.delivery.settlement import Output
from flowq.errors import BrokerError
from flowq.runtime.stage.in_flight import InFlight
from flowq.runtime.stage.settler import Coalescing

_LATEST_ARRIVAL_SECONDS = 120.0


class EarlyOutputs(Coalescing):
    """The outputs of one stage that no settlement carries. `len()` is the number of handled messages that wait in it.

    Every call has a token, so that it can be repeated until Redis answers. Tokens are removed late: a call
    whose connection broke may still arrive after its repetition has been answered.
    """

    def __init__(
        self, broker: Broker, stage: str, settling: Settling, in_flight: InFlight, publishing: Publishing
    ) -> None:
        super().__init__()
        self._broker = broker
        self._stage = stage
        self._settling = settling
        self._publishing = publishing
        self._in_flight = in_flight
        self._tokens = MessageIds(broker.world)
        self._tokens_in_use: deque[tuple[float, str]] = deque()
        self._outputs: list[Output] = []
        self._released: list[bytes] = []
        self._n_waiting = 0

    def __len__(self) -> int:
        return self._n_waiting

    def add(self, outputs: Sequence[Output], released: Sequence[bytes] = ()) -> None:
        """Publish these with the next call, then release the claimed bodies `released`."""
        if outputs or released:
            self._outputs += outputs
            self._released += released
            self._n_waiting += 1
            self._wake.set()

    async def _write_added(self) -> None:
        outputs, self._outputs = self._outputs, []
        released, self._released = self._released, []
        n_waiting = self._n_waiting
        if outputs:
            await self._publish(outputs)
            backpressure = self._in_flight.backpressure
            backpressure.sent(sum([len(output.body) for output in outputs]), handled=n_waiting)
            await backpressure.count()  # no settlement reports how full they are
        if released:
            await StoredBodies(self._broker).release(released)
        self._n_waiting -= n_waiting
        self._in_flight.changed.set()

    async def _publish(self, outputs: Sequence[Output]) -> None:
        what = f"publishing for {self._stage}"
        if (claims := self._settling.claims) is not None:
            given = outputs
            outputs = await retry_until_available(self._broker.world, lambda: claims.deposit(given), what=what)
        by_delay: defaultdict[int, list[Output]] = defaultdict(list)
        for output in outputs:
            by_delay[output.delay_ms].append(output)
        now_seconds = self._broker.world.monotonic()
        for delay_ms, delayed_alike in by_delay.items():
            for chunk in chunks(delayed_alike):
                token = self._tokens.next().decode()
                self._tokens_in_use.append((now_seconds, token))
                await retry_until_available(self._broker.world, lambda: self._send(chunk, token, delay_ms), what=what)  # noqa: B023  (called here)
        await self._remove_tokens_before(now_seconds - _LATEST_ARRIVAL_SECONDS)

    async def _remove_tokens_before(self, seconds: float) -> None:
        tokens: list[str] = []
        while self._tokens_in_use and self._tokens_in_use[0][0] < seconds:
            tokens.append(self._tokens_in_use.popleft()[1])
        if tokens:
            with contextlib.suppress(BrokerError):  # they expire in an hour anyway
                await self._broker.ask([(b"ZREM", self._broker.keys.published, *tokens)])

    async def _send(self, outputs: Sequence[Output], token: str, delay_ms: int) -> None:
        by_edge: defaultdict[str, list[Output]] = defaultdict(list)
        for output in outputs:
            by_edge[output.edge].append(output)
        memory = self._settling.deduplicating
        parcels = [
            Parcel(edge, messages, dedup=memory.get(parse_address(edge).edge)) for edge, messages in by_edge.items()
        ]
        await self._publishing.publish_together(parcels, token=token, delay_ms=delay_ms, source=self._stage)
