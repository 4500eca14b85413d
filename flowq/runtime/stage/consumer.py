"""Reads the edges of one stage and handles each delivery in one of a fixed number of slots."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flowq.broker.claims import claim_check
from flowq.broker.client.retrying import retry_until_available
from flowq.broker.flow_control.backpressure import Backpressure
from flowq.broker.reader import Reader
from flowq.broker.redis_streams import Broker
from flowq.broker.settling import Receipt, Settling
from flowq.delivery.message import Delivery
from flowq.delivery.policy import AckMode
from flowq.delivery.settlement import Delay, Interrupted, Outcome, Output, Postponed, Release, decide
from flowq.errors import BrokerUnavailable
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.routing import deduplicating_edges, edges_fed
from flowq.runtime.handlers.handling import Handling
from flowq.runtime.handlers.process_pool import ProcessHandling
from flowq.runtime.identity import Identity
from flowq.runtime.stage.duration_recorder import Stopwatch
from flowq.runtime.stage.early_ack import EarlyAck
from flowq.runtime.stage.in_flight import InFlight
from flowq.runtime.stage.outbox import Outbox
from flowq.runtime.stage.pacing import Pacer
from flowq.runtime.stage.patience import until
from flowq.runtime.stage.read_ahead import ReadAhead
from flowq.runtime.stage.reconciliation import Reconciliation
from flowq.runtime.stage.settler import Chunk, Settler
from flowq.runtime.stage.settling_ahead import SettlingAhead
from flowq.runtime.stage.slots import Slots
from flowq.runtime.stage.waiting_room import WaitingRoom

BLOCK_MS = 2000
_MOST_LOCAL = 1000
_LOOK_FOR_ROOM_EVERY = 16  # messages
_LAST_WAIT_SECONDS, _UNBLOCK_EVERY_SECONDS = 0.2, 0.05


class Consumer:
    """One stage in one process.

    Holds at most what its slots can run plus about a tenth of a second of work, so that slow stages spread over all
    workers. Stops reading while an edge that it feeds is full.
    """

    def __init__(
        self, stage: StagePlan, plan: Plan, broker: Broker, identity: Identity, *, delayed: asyncio.Event | None = None
    ) -> None:
        self.stage = stage
        self._plan = plan
        self._broker = broker
        self._identity = identity
        self._delayed = delayed
        self._reader = Reader(broker, stage.in_edges)
        deduplicating = deduplicating_edges(plan)
        early = stage.ack is not AckMode.AFTER
        self.settling = Settling(broker, deduplicating, plan.keeping, claim_check(broker, plan), keeps_answers=early)
        self._settler = Settler(
            stage.name, self.settling, current_worker=lambda: identity.worker, settled=self._on_settled
        )
        self._held = InFlight()
        self._room = asyncio.Event()
        self._gauge = ReadAhead()
        self._backpressure = Backpressure(broker, edges_fed(plan, stage))
        self._stopping = self._paused = False
        self._tasks: list[asyncio.Task[None]] = []
        self._reconciliation = Reconciliation(broker, stage.in_edges)
        self._pacer = Pacer(stage, plan, stage.rate, broker, identity) if stage.rate else None
        self._waiting = WaitingRoom(self._pacer, start=self._start, postpone=self._postpone)
        is_first = stage.ack is AckMode.FIRST
        self._slots = Slots(
            stage,
            self._pacer,
            self._waiting,
            self._gauge,
            self._settler.add,
            win_first=self._win_first if is_first and stage.rate else None,
            conclude_early=self._conclude_early if early else None,
        )
        outbox = Outbox(broker, stage.name, self.settling, self._backpressure, has_room=self._room)
        self._early = EarlyAck(broker, stage, self._settler, outbox)
        # With a rate it is unknown what may start until it does: then each is settled alone.
        self._ahead = SettlingAhead(self._early, self._slots.add) if is_first and not stage.rate else None

    # Life

    async def connect(self) -> None:
        """Open the connections before reading: each new one begins an epoch, and epochs do not share batches."""
        await retry_until_available(self._reader.connect, what=f"connecting {self.stage.name}")
        await self.settling.connect()

    def start(self, handling: Handling | ProcessHandling) -> None:
        """Start reading and handling."""
        self._slots.start(handling)
        self._tasks = [asyncio.create_task(work) for work in (self._read(), self._settler.run())]
        if self._pacer is not None:
            self._tasks.append(asyncio.create_task(self._pacer.run()))
        if self.stage.ack is not AckMode.AFTER:
            self._tasks.append(asyncio.create_task(self._early.outbox.run()))
        if self._ahead is not None:
            self._tasks.append(asyncio.create_task(self._ahead.run()))

    @property
    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """All tasks that must keep running as long as the stage does."""
        return (*self._tasks, *self._slots.tasks)

    @property
    def silent_seconds(self) -> float:
        return self._reader.silent_seconds

    @property
    def running(self) -> int:
        """Deliveries that have been started or settled, and whose outputs have not all been published."""
        unstarted = 0 if self._ahead is None else self._ahead.n_settling + len(self._slots.todo)
        return self._slots.n_at_work + unstarted + len(self._early.outbox)

    @property
    def _n_in_flight(self) -> int:
        """Deliveries that are held, or were settled early and whose outputs have not all been published."""
        settled = 0 if self._ahead is None else self._slots.n_at_work + len(self._slots.todo)
        return self._held.n + settled + len(self._early.outbox)

    @property
    def stopwatch(self) -> Stopwatch:
        return self._slots.stopwatch

    async def stop(self, grace_seconds: float, hurry: asyncio.Event) -> None:
        """Stop reading, hand back unstarted deliveries, finish the rest within `grace_seconds` or hand them back."""
        self._stopping = True
        self._room.set()
        self._release_unstarted()
        self._slots.stop_gathering()
        await self._settler.flush()
        await until(lambda: not self.running, grace_seconds, hurry)
        await self._settler.flush()
        if self.running:
            await self._slots.interrupt()
            await self._settler.flush()
        await self._give_up_the_rest()
        await self._settler.flush()
        await self._early.outbox.flush()

    async def close(self) -> None:
        """End the loops. Waits for the read under way: it may bring deliveries, which are handed back."""
        reading = self._tasks[0] if self._tasks else None  # none if the start failed half-way
        while reading is not None and not reading.done():
            await self._reader.unblock()
            await asyncio.wait([reading], timeout=_UNBLOCK_EVERY_SECONDS)
        self._release_unstarted()
        try:
            await self._settler.flush()
            if self._pacer is not None:
                await self._pacer.flush()
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """Cancel the loops. Handlers that ignore cancellation are abandoned."""
        if self._tasks:
            for task in self.tasks:
                task.cancel()
            await asyncio.wait(self.tasks, timeout=_LAST_WAIT_SECONDS)
        await self._reader.close()
        await self._settler.close()

    async def set_paused(self, paused: bool) -> None:
        """Paused, read nothing new, hand back unstarted deliveries, and let the rest finish. Call it repeatedly."""
        self._paused = paused
        self._room.set()
        if paused:
            self._release_unstarted()
            await self._reader.unblock()

    # Reading

    async def _read(self) -> None:
        while not self._stopping:
            room = 0 if self._paused else self._room_to_read()
            if room <= 0:
                self._room.clear()
                await self._room.wait()
            elif self._backpressure.need_a_look:
                await self._backpressure.look_again()
            elif self._reconciliation.is_due:
                async for missing in self._reconciliation.missing(self._reader, self._held, self._identity.worker):
                    await self.take(missing)
            else:
                try:
                    deliveries = await self._reader.read(self._identity.worker, count=room, block_ms=BLOCK_MS)
                except BrokerUnavailable:
                    self._reconciliation.hasten(0)
                else:
                    await self.take(deliveries)

    def _room_to_read(self) -> int:
        """How many deliveries to ask for now."""
        batch = self.stage.batch
        wanted = self.stage.concurrency * (batch.size if batch else 1)
        # Deliveries that wait for their turn must not keep other keys from being read, up to a bound.
        held = self._n_in_flight - min(self._waiting.n, _MOST_LOCAL)
        return self._gauge.room(wanted, self._backpressure.bound(_MOST_LOCAL), held=held)

    async def take(self, deliveries: Sequence[Delivery]) -> None:
        """Handle these, except those already held, each when its turn comes."""
        if not self._n_in_flight:
            self._gauge.begin(self._now())
        new = self._held.take(deliveries)
        if len(new) < len(deliveries):
            # Delivered again while held: the group has been recreated. The old group's reply to a commit under way
            # would be mistaken for the end of what the new group keeps pending.
            self._reconciliation.hasten()
        if self._pacer is not None and new:
            await self._waiting.admit(new)
        else:
            self._start(new)

    def _start(self, deliveries: Sequence[Delivery]) -> None:
        if self._ahead is not None:
            self._ahead.admit(deliveries)
        else:
            self._slots.add(deliveries)
        if self._stopping or self._paused:  # they come from a read that was under way
            self._release_unstarted()

    def _postpone(self, delivery: Delivery, postponed: Postponed) -> None:
        self._settler.add(delivery.edge, ((delivery,), decide(postponed, delivery, self.stage.retry, 0.0)))

    @property
    def room(self) -> int:
        """How many reclaimed deliveries this stage may accept now."""
        return 0 if self._stopping or self._paused else max(0, self.stage.concurrency + _MOST_LOCAL - self._n_in_flight)

    # Settling

    async def commit(self, delivery: Delivery, outputs: Sequence[Output]) -> None:
        """Settle a delivery while its handler is still running."""
        await self._early.commit(delivery, outputs)

    def _on_settled(self, edge: str, chunk: Chunk, receipt: Receipt) -> None:
        finished = self._held.let_go(edge, chunk.items)
        # Postponed deliveries cost no time: counted as work, they would cause the whole edge to be read ahead.
        postponed = sum(isinstance(settlement, Delay) and not settlement.counted for _, settlement in chunk.items)
        if self._ahead is None:
            self._gauge.count(max(0, finished - postponed), self._now())
        self._backpressure.note(receipt.outstanding)
        self._backpressure.sent(chunk.n_bytes, handled=finished)
        if self._pacer is not None and postponed:
            self._pacer.queued(settlement.queue_key for _, settlement in chunk.items if isinstance(settlement, Delay))
        if receipt.delayed and self._delayed is not None:
            self._delayed.set()
        self._room.set()

    async def _win_first(self, delivery: Delivery) -> bool:
        if await self._early.win([delivery]):
            return True
        self._let_go_of_turn(delivery)
        return False

    async def _conclude_early(self, delivery: Delivery, outcome: Outcome) -> None:
        await self._early.conclude(delivery, outcome)
        if self._ahead is not None:
            self._gauge.count(1, self._now())
            if len(self._slots.todo) % _LOOK_FOR_ROOM_EVERY == 0:
                self._room.set()

    def _release_unstarted(self) -> None:
        # Deliveries that were settled ahead and wait for a slot cannot be handed back.
        unstarted = self._slots.withdraw() if self._ahead is None else self._ahead.withdraw()
        for delivery in (*self._waiting.empty(), *unstarted):
            self._let_go_of_turn(delivery)
            self._settler.add(delivery.edge, ((delivery,), Release()))

    def _let_go_of_turn(self, delivery: Delivery) -> None:
        if self._pacer is not None:
            self._pacer.let_go(delivery)

    async def _give_up_the_rest(self) -> None:
        """Hand back what still runs: the handlers end with this process.

        Deliveries that were settled early cannot be handed back, and become dead letters.
        """
        if self._ahead is not None:
            await self._ahead.until_started()
        rest = self._slots.at_work
        if self._ahead is not None:
            rest += self._slots.withdraw()
        for delivery in rest:
            if self._early.is_settled(delivery):
                await self._early.conclude(delivery, Interrupted())
            else:
                self._settler.add(delivery.edge, ((delivery,), Release()))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
