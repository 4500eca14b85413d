"""The life of one stage in one process: it connects, starts, pauses and stops."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flowq.broker.client.retrying import retry_until_available
from flowq.delivery.message import Delivery
from flowq.delivery.settlement import Interrupted
from flowq.runtime.handlers.handling import Handling
from flowq.runtime.handlers.process_pool import ProcessHandling
from flowq.runtime.stage.consumer import Consumer, State
from flowq.runtime.waiting import until
from flowq.world import World

_LAST_WAIT_SECONDS, _UNBLOCK_EVERY_SECONDS = 0.2, 0.05
_UNRESPONSIVE_SECONDS = 1.2


class StageRunner:
    """Runs a consumer."""

    def __init__(self, consumer: Consumer, world: World) -> None:
        self.stage = consumer.stage
        self.consumer = consumer
        self._world = world
        self._reading: asyncio.Task[None] | None = None  # none if the start failed half-way
        self._loops: list[asyncio.Task[None]] = []

    async def connect(self) -> None:
        """Open the connections before reading: each new one begins an epoch, and epochs do not share batches."""
        await retry_until_available(self._world, self.consumer.reader.connect, what=f"connecting {self.stage.name}")
        await self.consumer.settler.settling.connect()

    def start(self, handling: Handling | ProcessHandling) -> None:
        """Start reading and handling."""
        consumer = self.consumer
        consumer.start(handling)
        self._reading = asyncio.create_task(consumer.read())
        loops = [consumer.settler.run(), consumer.early.outbox.run()]
        if consumer.waiting is not None:
            loops.append(consumer.waiting.pacer.run())
        if consumer.ahead is not None:
            loops.append(consumer.ahead.run())
        self._loops = [asyncio.create_task(loop) for loop in loops]

    @property
    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """All tasks that must keep running as long as the stage does."""
        return () if self._reading is None else (self._reading, *self._loops, *self.consumer.slots)

    async def set_paused(self, paused: bool) -> None:
        """Paused, read nothing new, hand back unstarted deliveries, and let the rest finish. Call it repeatedly."""
        consumer = self.consumer
        if consumer.state < State.STOPPING:
            consumer.state = State.PAUSED if paused else State.RUNNING
        consumer.in_flight.changed.set()
        if paused:
            consumer.release_unstarted()
            await consumer.reader.unblock()

    async def stop(self, grace_seconds: float, hurry: asyncio.Event) -> None:
        """Stop reading, hand back unstarted deliveries, finish the rest within `grace_seconds` or hand them back."""
        consumer = self.consumer
        consumer.state = State.STOPPING
        consumer.in_flight.changed.set()
        consumer.release_unstarted()
        consumer.ready.stop_lingering()
        await consumer.settler.flush()
        await until(lambda: not consumer.running, grace_seconds, hurry)
        await consumer.settler.flush()
        if consumer.running:
            await self._interrupt()
            await consumer.settler.flush()
        await self._give_up_the_rest()
        await consumer.settler.flush()
        await consumer.early.outbox.flush()

    async def _interrupt(self) -> None:
        """Cancel every handler, and wait a little for those that do not end at once."""
        self.consumer.state = State.INTERRUPTING
        for slot in self.consumer.slots:
            slot.cancel()
        await until(lambda: not self.consumer.n_at_work, _UNRESPONSIVE_SECONDS, asyncio.Event())

    async def _give_up_the_rest(self) -> None:
        """Hand back what still runs: the handlers end with this process.

        Deliveries that were settled early cannot be handed back, and become dead letters.
        """
        consumer = self.consumer
        if consumer.ahead is not None:
            await consumer.ahead.flush()  # the commit under way
        unstarted = consumer.ready.withdraw() if consumer.ahead else []
        for row in (*consumer.at_work, *unstarted):
            await consumer.early.conclude(Delivery(*row), Interrupted())

    async def close(self) -> None:
        """End the loops. Waits for the read under way: it may bring deliveries, which are handed back."""
        while self._reading is not None and not self._reading.done():
            await self.consumer.reader.unblock()
            await asyncio.wait([self._reading], timeout=_UNBLOCK_EVERY_SECONDS)
        self.consumer.release_unstarted()
        try:
            await self.consumer.settler.flush()
            if self.consumer.waiting is not None:
                await self.consumer.waiting.pacer.flush()
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """Cancel the loops. Handlers that ignore cancellation are abandoned."""
        if self.tasks:
            for task in self.tasks:
                task.cancel()
            await asyncio.wait(self.tasks, timeout=_LAST_WAIT_SECONDS)
        await self.consumer.close()
