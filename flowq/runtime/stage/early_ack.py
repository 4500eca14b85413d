"""Stages that settle before their handler has finished: ack="first" and ack="manual"."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.redis_streams import Broker
from flowq.dead_letters.stored_letters import StoredLetters
from flowq.delivery.message import Arrival, Delivery, Row
from flowq.delivery.settlement import DeadLetter, Interrupted, Outcome, Output, Succeeded
from flowq.errors import FlowqError
from flowq.graph.compilation.plan import StagePlan
from flowq.large_bodies.reference import is_claimed
from flowq.runtime.stage.early_outputs import EarlyOutputs
from flowq.runtime.stage.ready_queue import ReadyQueue
from flowq.runtime.stage.settler import Coalescing, Settler

T = TypeVar("T")

_Entry = tuple[str, bytes]  # two edges may have the same entry id


class DeliveryLost(FlowqError):
    """`await ctx.ack()` of a message that has been reclaimed by another worker. What was emitted is not sent."""

    code = "FQ307"


class EarlyAck:
    """Settles deliveries of one stage without waiting for their handlers.

    Outputs that come after the settlement cannot be part of it: `outbox` publishes them. A failure after it becomes a
    dead letter, never a retry.
    """

    def __init__(self, broker: Broker, stage: StagePlan, settler: Settler, outbox: EarlyOutputs) -> None:
        self.outbox = outbox
        self._broker = broker
        self._stage = stage
        self._settler = settler
        self._acked: set[_Entry] = set()  # and not concluded
        self._acking: defaultdict[_Entry, asyncio.Lock] = defaultdict(asyncio.Lock)

    # Before the handler

    async def win(self, rows: Sequence[Row]) -> list[Row]:
        """Settle deliveries of one arrival before their handlers run.

        Returns those that may run: no other worker will run them. Await it `uninterrupted`.
        """
        gone = {row[1] for row in await self._settler.settle_now(rows[0][0], [(rows, Succeeded())])}
        won = [row for row in rows if row[1] not in gone]
        self._acked.update([(row[0].edge, row[1]) for row in won])
        return won

    # While it runs

    async def commit(self, delivery: Delivery, outputs: Sequence[Output]) -> None:
        """Settle a delivery now, with these outputs; if it is settled already, publish them. Raises DeliveryLost."""
        await uninterrupted(self._commit(delivery, outputs))

    async def _commit(self, delivery: Delivery, outputs: Sequence[Output]) -> None:
        entry = delivery.edge, delivery.entry_id
        async with self._acking[entry]:
            if entry in self._acked:
                self.outbox.add(outputs)
                await self.outbox.flush()
                return
            gone = await self._settler.settle_now(delivery.arrival, [((delivery,), Succeeded(outputs))])
            if gone:
                raise DeliveryLost(
                    "another worker has reclaimed the message, and runs it again",
                    hint="this worker was cut off or suspended for longer than its lease; do not catch this error",
                )
            self._acked.add(entry)

    # After it

    def is_settled(self, delivery: Delivery) -> bool:
        """Whether a delivery has been settled and not concluded."""
        return (delivery.edge, delivery.entry_id) in self._acked

    async def conclude(self, delivery: Delivery, outcome: Outcome) -> None:
        """Act on the outcome of a delivery: settle it, publish its outputs, or bury it."""
        if not self.is_settled(delivery):
            self._settler.add((delivery,), outcome)
        elif isinstance(outcome, Succeeded):
            # Released only now: a dead letter would have needed the body.
            is_released = is_claimed(delivery.header_bytes) and self._stage.keep is None
            self.outbox.add(outcome.outputs, [delivery.body] if is_released else ())
        elif isinstance(settlement := self._settler.decided(delivery, outcome), DeadLetter):
            await self._bury(delivery, settlement)
        else:
            happened = "stopped" if isinstance(outcome, Interrupted) else "failed"
            error, place = getattr(outcome, "error", None), getattr(outcome, "place", None)
            letter = DeadLetter(f"{happened} after it was acknowledged", error, delivery.header, place)
            await self._bury(delivery, letter)
        # Last: a stop that cancels this must know until then that the delivery was settled.
        entry = delivery.edge, delivery.entry_id
        self._acked.discard(entry)
        self._acking.pop(entry, None)

    async def _bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        await retry_until_available(
            self._broker.world,
            partial(StoredLetters(self._broker, self._stage.name).bury, delivery, letter),
            what=f"adding a dead letter of {self._stage.name}",
        )


async def uninterrupted(commit: Coroutine[Any, Any, T]) -> T:
    """Await a commit to its end, even when this is cancelled: half-way it may or may not have been written."""
    committing = asyncio.ensure_future(commit)
    try:
        return await asyncio.shield(committing)
    except asyncio.CancelledError:
        await asyncio.wait([committing])
        raise


class SettlingAhead(Coalescing):
    """Settles deliveries before they start: all that have been read meanwhile in one commit.

    For stages with ack="first" and no rate: there it is known what starts next.
    """

    def __init__(self, early: EarlyAck, ready: ReadyQueue) -> None:
        super().__init__()
        self._early = early
        self._ready = ready
        self._admitted: list[Row] = []
        self.n_settling = 0  # in the commit under way

    def add(self, rows: Sequence[Row]) -> None:
        """Settle these, then let those that may run start."""
        self._admitted += rows
        self._wake.set()

    def withdraw(self) -> list[Row]:
        """Remove and return the deliveries that have been added and not settled."""
        admitted, self._admitted = self._admitted, []
        return admitted

    async def _write_added(self) -> None:
        rows = self.withdraw()
        self.n_settling = len(rows)
        by_arrival: defaultdict[Arrival, list[Row]] = defaultdict(list)
        for row in rows:
            by_arrival[row[0]].append(row)
        try:
            for together in by_arrival.values():
                await uninterrupted(self._win(together))
        finally:
            self.n_settling = 0

    async def _win(self, rows: Sequence[Row]) -> None:
        # Without a pause between the two: what is neither in flight nor ready looks like room to read more.
        self._ready.add(await self._early.win(rows))
