"""Stages that settle before their handler has finished: ack="first" and ack="manual"."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from flowq.broker.calls import insist
from flowq.broker.redis_streams import Broker
from flowq.broker.repairing import bury
from flowq.delivery.claim import is_claimed
from flowq.delivery.message import Delivery
from flowq.delivery.policy import AckMode
from flowq.delivery.settlement import Ack, DeadLetter, Interrupted, Outcome, Output, Succeeded
from flowq.errors import FlowqError
from flowq.graph.plan import StagePlan
from flowq.runtime.concluding import conclude
from flowq.runtime.outbox import Outbox
from flowq.runtime.settler import Settler

_Entry = tuple[str, bytes]  # two edges may give the same entry id


class DeliveryLost(FlowqError):
    """`await ctx.ack()` of a message that another worker has been given meanwhile. What was emitted is not sent."""

    code = "FQ304"


class EarlyAck:
    """Settles deliveries of one stage without waiting for their handlers.

    Once a delivery is settled its outputs can no longer ride on the settlement: they are published, by `outbox`. A
    failure after that becomes a dead letter, never a retry. With ack="first" whatever has been admitted meanwhile is
    settled together, and what was won is given to `start`.
    """

    def __init__(
        self,
        broker: Broker,
        stage: StagePlan,
        settler: Settler,
        outbox: Outbox,
        *,
        start: Callable[[Sequence[Delivery]], None] = lambda deliveries: None,
        lost: Callable[[Delivery], None] = lambda delivery: None,
    ) -> None:
        self.outbox = outbox
        self._broker = broker
        self._stage = stage
        self._settler = settler
        self._start = start
        self._lost = lost
        self._admitted: list[Delivery] = []
        self._n_being_settled = 0
        self._wake = asyncio.Event()
        self._settling = asyncio.Lock()
        self._acked: set[_Entry] = set()  # and not concluded
        self._acking: defaultdict[_Entry, asyncio.Lock] = defaultdict(asyncio.Lock)

    # Before the handler

    @property
    def n_under_way(self) -> int:
        """Deliveries that are being settled before they start, and those whose outputs are still to be published."""
        return self._n_being_settled + len(self.outbox)

    def admit(self, deliveries: Sequence[Delivery]) -> None:
        """Settle these and start them."""
        self._admitted += deliveries
        self._wake.set()

    def withdraw(self) -> list[Delivery]:
        """What has been admitted and not been settled: it will not be."""
        admitted, self._admitted = self._admitted, []
        return admitted

    async def run(self) -> None:
        """Settle what is admitted, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._settling:
                deliveries = self.withdraw()
                self._n_being_settled = len(deliveries)
                if won := await self.win(deliveries):
                    self._start(won)
                self._n_being_settled = 0

    async def until_started(self) -> None:
        """Wait until what is being settled has been started."""
        async with self._settling:
            pass

    async def win(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Settle deliveries before their handlers run. Returns those that may run: no other worker will run them."""
        by_edge: defaultdict[str, list[Delivery]] = defaultdict(list)
        for delivery in deliveries:
            by_edge[delivery.edge].append(delivery)
        won: list[Delivery] = []
        for edge, together in by_edge.items():
            gone = await self._settler.settle_now(edge, [((delivery,), _ACK) for delivery in together])
            for delivery in gone:
                self._lost(delivery)
            won += [delivery for delivery in together if delivery not in gone] if gone else together
        self._acked.update([(delivery.edge, delivery.entry_id) for delivery in won])
        return won

    # While it runs

    async def commit(self, delivery: Delivery, outputs: Sequence[Output]) -> None:
        """Settle a delivery now, with these outputs; if that has been done, publish them. Raises DeliveryLost."""
        # A commit that is cancelled half-way might have been written or not: it is seen through.
        committing = asyncio.ensure_future(self._commit(delivery, outputs))
        try:
            await asyncio.shield(committing)
        except asyncio.CancelledError:
            await asyncio.wait([committing])
            raise

    async def _commit(self, delivery: Delivery, outputs: Sequence[Output]) -> None:
        entry = delivery.edge, delivery.entry_id
        async with self._acking[entry]:
            if entry in self._acked:
                self.outbox.add(outputs)
                await self.outbox.flush()
                return
            gone = await self._settler.settle_now(delivery.edge, [((delivery,), Ack(outputs, filtered=False))])
            if gone:
                raise DeliveryLost(
                    "the message is another worker's by now, which runs it again",
                    hint="this worker was cut off, or stood still, for longer than its lease; let the error pass",
                )
            self._acked.add(entry)

    # After it

    def is_settled(self, delivery: Delivery) -> bool:
        """Whether a delivery that has not been concluded has been settled."""
        return (delivery.edge, delivery.entry_id) in self._acked

    async def conclude(self, delivery: Delivery, outcome: Outcome) -> None:
        """See to what became of a delivery."""
        settlement = conclude(outcome, delivery, self._stage.retry)
        if not self.is_settled(delivery):
            self._settler.add(delivery.edge, ((delivery,), settlement))
        elif isinstance(outcome, Succeeded):
            # The body is released not before: a dead letter would have needed it.
            is_released = is_claimed(delivery.header_bytes) and self._stage.keep is None
            self.outbox.add(outcome.outputs, [delivery.body] if is_released else ())
        elif isinstance(settlement, DeadLetter):
            await self._bury(delivery, settlement)
        else:
            happened = "stopped" if isinstance(outcome, Interrupted) else "failed"
            error = getattr(outcome, "error", None)
            await self._bury(delivery, DeadLetter(f"{happened} after it was acknowledged", error, delivery.header))
        # Not before: until then a stop that cancels this must know that it was settled.
        entry = delivery.edge, delivery.entry_id
        self._acked.discard(entry)
        self._acking.pop(entry, None)

    async def handle_alone(self, delivery: Delivery, handle: Callable[[Delivery], Awaitable[Outcome]]) -> None:
        """All of it for one delivery, which has not been admitted."""
        if self._stage.ack is not AckMode.FIRST or await self.win([delivery]):
            await self.conclude(delivery, await handle(delivery))
            await self.outbox.flush()

    async def _bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        await insist(
            partial(bury, self._broker, self._stage.name, delivery, letter),
            what=f"adding a dead letter of {self._stage.name}",
        )


_ACK = Ack((), filtered=False)
