"""Reads the edges of one stage, and handles each delivery in one of a fixed number of slots: the path of a message."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextvars import copy_context
from enum import IntEnum, auto
from functools import partial

from flowq.broker.inspection.throughput import bucket_of
from flowq.broker.reader import Reader
from flowq.broker.redis_streams import Broker
from flowq.delivery.message import Delivery, Row
from flowq.delivery.policy import AckMode
from flowq.delivery.settlement import Interrupted, Outcome
from flowq.errors import BrokerUnavailable
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.kinds import Batch
from flowq.runtime.handlers.handled import AT_WORK
from flowq.runtime.handlers.handling import Handling
from flowq.runtime.handlers.own_context import in_context, is_unchanged
from flowq.runtime.handlers.process_pool import ProcessHandling
from flowq.runtime.identity import Identity
from flowq.runtime.stage.batching import BatchCall
from flowq.runtime.stage.early_ack import EarlyAck, SettlingAhead, uninterrupted
from flowq.runtime.stage.early_outputs import EarlyOutputs
from flowq.runtime.stage.in_flight import InFlight, Reconciliation
from flowq.runtime.stage.pacing import Pacer
from flowq.runtime.stage.read_ahead import ReadAhead
from flowq.runtime.stage.ready_queue import ReadyQueue
from flowq.runtime.stage.settler import Settler
from flowq.runtime.stage.waiting_room import WaitingRoom
from flowq.runtime.stage.writing import Writing

BLOCK_MS = 2000
_MOST_LOCAL = 1000
_LOOK_FOR_ROOM_EVERY = 16  # messages
_TURN_SECONDS = 0.002
_MEASURED_ONE_IN = 8  # of the calls that a slot makes without waiting in between


class State(IntEnum):
    """The life of a stage in one process, in its order."""

    RUNNING = auto()
    PAUSED = auto()
    STOPPING = auto()
    INTERRUPTING = auto()


class Consumer:
    """One stage in one process.

    It keeps in flight at most what its slots can run and about a tenth of a second of work more, so that slow stages
    spread over all workers. It stops reading while an edge that it feeds is full. Slots are long-lived tasks, as many
    as the stage's `concurrency`: there is no task per message.
    """

    def __init__(
        self,
        stage: StagePlan,
        plan: Plan,
        broker: Broker,
        identity: Identity,
        writing: Writing,
        *,
        delayed: asyncio.Event,
    ) -> None:
        self.stage = stage
        self.state = State.RUNNING
        self.reader = Reader(broker, stage.in_edges)
        self.slots: Sequence[asyncio.Task[None]] = ()
        self.durations: Counter[int] = Counter()  # how many handler calls were how long, by bucket, until recorded
        self._identity = identity
        self._world = broker.world
        self._at_work: list[Sequence[Row]] = [()] * stage.concurrency
        self._gathering = asyncio.Lock()
        self._gathered: Sequence[Row] = ()  # the batch that is not complete yet
        # With a rate it is unknown what may start until it does: then each is settled alone.
        is_ahead = stage.ack is AckMode.FIRST and not stage.rate
        self.in_flight = InFlight(writing.backpressure(stage), settled_first=is_ahead, world=self._world)
        if stage.rate or self._world.is_simulated:  # turns are waited for, whether a core is free meanwhile or not
            self.in_flight.read_ahead = ReadAhead(core_wait=lambda: 0.0)
        # Messages that wait for a turn, or for others of their batch, count as work although no slot has them.
        gauge = None if stage.rate or stage.batch else self.in_flight.read_ahead
        self.ready = ReadyQueue(gauge, stage.concurrency, self._world)
        self._reconciliation = Reconciliation(broker, stage.in_edges)
        pacer = Pacer(stage, plan, stage.rate, broker, identity) if stage.rate else None
        self.waiting = WaitingRoom(pacer, self.ready) if pacer else None
        settling = writing.settling(keeps_answers=stage.ack is not AckMode.AFTER)
        self.settler = Settler(stage, settling, identity, self.in_flight, pacer=pacer, delayed=delayed)
        outbox = EarlyOutputs(broker, stage.name, settling, self.in_flight, writing.publishing())
        self.early = EarlyAck(broker, stage, self.settler, outbox)
        self.ahead = SettlingAhead(self.early, self.ready) if is_ahead else None

    # Reading

    async def read(self) -> None:
        """Read until stopped."""
        backpressure = self.in_flight.backpressure
        while self.state < State.STOPPING:
            room = self._room_to_read() if self.state is State.RUNNING else 0
            if room <= 0:
                self.in_flight.changed.clear()
                await self.in_flight.changed.wait()
            elif backpressure.need_a_look:
                await backpressure.look_again()
            elif self._reconciliation.is_due:
                async for missing in self._reconciliation.missing(self.reader, self.in_flight, self._identity.worker):
                    await self.take(missing)
            else:
                try:
                    rows = await self.reader.read(self._identity.worker, count=room, block_ms=BLOCK_MS)
                except BrokerUnavailable:
                    self._reconciliation.hasten(0)
                else:
                    await self.take(rows)

    @property
    def _n_in_flight(self) -> int:
        settled = self.n_at_work + len(self.ready.ready) if self.ahead else 0
        return self.in_flight.n + settled + len(self.early.outbox)

    @property
    def _n_for_slots(self) -> int:
        # Deliveries that wait for their turn must not keep other keys from being read, up to a bound.
        n_waiting = self.waiting.n if self.waiting else 0
        return self._n_in_flight - min(n_waiting, self._most_local)

    @property
    def _slots_to_fill(self) -> int:
        return self.stage.slots

    @property
    def _most_local(self) -> int:
        return _MOST_LOCAL

    def _room_to_read(self) -> int:
        """How many deliveries to ask for now."""
        most = self.in_flight.backpressure.bound(self._most_local)
        return self.in_flight.read_ahead.room(self._slots_to_fill, most, in_flight=self._n_for_slots)

    @property
    def room(self) -> int:
        """How many reclaimed deliveries this stage may accept now."""
        is_running = self.state is State.RUNNING
        return max(0, self.stage.concurrency + self._most_local - self._n_in_flight) if is_running else 0

    async def take(self, rows: Sequence[Row]) -> None:
        """Handle these, except those already in flight, each when its turn comes."""
        was_idle = not self._n_in_flight
        if was_idle:
            self.in_flight.read_ahead.begin(self._world.monotonic())
        new = self.in_flight.receive(rows)
        if len(new) < len(rows):
            # Delivered again while in flight: the group has been recreated. The old group's reply to a commit under way
            # would be mistaken for the end of what the new group keeps pending.
            self._reconciliation.hasten()
        if new:
            await self._admit(new)
        if was_idle and len(new) == 1:
            await asyncio.sleep(0)  # it starts first: sending the next read takes longer than its way to here

    async def _admit(self, rows: Sequence[Row], *, again: bool = False) -> None:
        if self.waiting is None:
            (self.ahead or self.ready).add(rows)
        else:
            for delivery, postponed in await self.waiting.admit([Delivery(*row) for row in rows], again=again):
                self.settler.add((delivery,), postponed)
        if self.state is not State.RUNNING:  # they come from a read that was under way
            self.release_unstarted()

    def release_unstarted(self) -> None:
        """Hand back what has not started. Deliveries that were settled ahead and wait for a slot cannot be."""
        unstarted = (self.ahead or self.ready).withdraw()
        if self.waiting is not None:
            unstarted += self.waiting.withdraw()
            for row in unstarted:
                self.waiting.pacer.let_go(Delivery(*row))
        for row in unstarted:
            self.settler.add((row,), Interrupted())

    async def close(self) -> None:
        """Close its connections."""
        await self.reader.close()
        await self.settler.settling.close()

    # Slots

    def start(self, handling: Handling | ProcessHandling) -> None:
        """Start handling."""
        numbers, batch = range(self.stage.concurrency), self.stage.batch
        if isinstance(handling, Handling) and batch:
            slots = [self._batch_slot(number, handling, batch) for number in numbers]
        else:
            slots = [self._slot(number, handling) for number in numbers]
        self.slots = [asyncio.create_task(slot) for slot in slots]

    @property
    def n_at_work(self) -> int:
        """The number of deliveries started and not settled, except those whose slot has died."""
        return sum(len(unit) for unit, slot in zip(self._at_work, self.slots, strict=False) if not slot.done())

    @property
    def n_in_handlers(self) -> int:
        """The number of deliveries in a handler: those at work, except a batch that is still being gathered."""
        return max(0, self.n_at_work - len(self._gathered))

    @property
    def at_work(self) -> list[Delivery]:
        """The deliveries started and not settled."""
        return [Delivery(*row) for unit in self._at_work for row in unit]

    @property
    def running(self) -> int:
        """Deliveries that have been started or settled, and whose outputs have not all been published."""
        settled = self.ahead.n_settling + len(self.ready.ready) if self.ahead else 0
        return self.n_at_work + settled + len(self.early.outbox)

    async def _slot(self, number: int, handling: Handling | ProcessHandling) -> None:
        """Handle one delivery after another. No ContextVar set by one handler is visible to the next.

        Nearly all handlers leave the context unchanged, which is cheap to check. After one that does not, each call
        gets a copy of the slot's first context. A task per message would cost as much as everything else together.
        """
        ready, at_work, waiting, handle = self.ready.ready, self._at_work, self.waiting, handling.handle
        settle, is_plain = self.settler.add, waiting is None and self.stage.ack is AckMode.AFTER
        clock, read_ahead = self._world.monotonic, self.in_flight.read_ahead
        AT_WORK.set(partial(at_work.__getitem__, number))
        at_first, is_as_at_first, interrupting = copy_context(), True, State.INTERRUPTING
        steps, took_seconds = 0, 0.0
        while True:
            while not ready or self.state >= interrupting:
                await self.ready.wait()
                steps = 0
            if waiting is not None:
                await self._until_due(number)
            row = ready.popleft()
            at_work[number] = unit = (row,)
            if waiting is not None and not await self._may_start(Delivery(*row)):
                at_work[number] = ()
                continue
            began_at = clock() if waiting is not None or steps % _MEASURED_ONE_IN == 0 else 0.0
            try:
                outcome = await (handle(row) if is_as_at_first else in_context(at_first.copy(), handle, row))
            except asyncio.CancelledError:
                if self.state < interrupting:
                    raise
                outcome = Interrupted()
            is_as_at_first = is_as_at_first and is_unchanged(at_first)
            if began_at:
                took_seconds = clock() - began_at
                self.durations[bucket_of(took_seconds)] += 1
            if is_plain:
                settle(unit, outcome)
            else:
                await self._conclude(unit, outcome, took_seconds)
            at_work[number] = ()
            steps += 1
            if steps > read_ahead.per_second * _TURN_SECONDS:
                # A handler that never waits would otherwise keep the loop from reading and settling.
                steps = 0
                await asyncio.sleep(0)

    async def _conclude(self, unit: Sequence[Row], outcome: Outcome, took_seconds: float) -> None:
        """Pass an outcome on, in a stage that is paced or settles early."""
        if self.waiting is not None:
            outcome = await self.waiting.pacer.judge([Delivery(*row) for row in unit], outcome, took_seconds)
        if self.stage.ack is AckMode.AFTER:
            self.settler.add(unit, outcome)
            return
        await self.early.conclude(Delivery(*unit[0]), outcome)
        if self.ahead is not None:
            self.in_flight.read_ahead.count(1, self._world.monotonic())
        if len(self.ready.ready) % _LOOK_FOR_ROOM_EVERY == 0:
            self.in_flight.changed.set()

    async def _batch_slot(self, number: int, handling: Handling, limits: Batch) -> None:
        AT_WORK.set(partial(self._at_work.__getitem__, number))
        while True:
            async with self._gathering:
                await self._until_due(number)
                self._at_work[number] = self._gathered = batch = [self.ready.ready.popleft()]
                await self.ready.fill(batch, limits)
                self._gathered = ()
            deliveries = [Delivery(*row) for row in batch]
            call = BatchCall(handling, deliveries, is_interrupted=lambda: self.state >= State.INTERRUPTING)
            took_seconds = await self._run_batch(call)
            for unit, outcome in call.outcomes:
                await self._conclude(unit, outcome, took_seconds)
            self.durations[bucket_of(took_seconds)] += 1
            self._at_work[number] = ()

    async def _run_batch(self, call: BatchCall) -> float:
        """Run a batch to its end. Returns how many seconds that took."""
        began_at = self._world.monotonic()
        try:
            await in_context(copy_context(), call.run)
        except asyncio.CancelledError:
            if self.state < State.INTERRUPTING:
                raise
            call.interrupt()
        return self._world.monotonic() - began_at

    async def _until_due(self, number: int) -> None:
        """Wait until the next delivery may start. Those that missed their turns ask for new ones, and count as work."""
        while (missed := self.waiting.withdraw_missed() if self.waiting else None) or not self.ready.ready:
            if missed:
                self._at_work[number] = missed
                await self._admit(missed, again=True)
                self._at_work[number] = ()
            else:
                await self.ready.wait()

    async def _may_start(self, delivery: Delivery) -> bool:
        """Whether a delivery whose turn has come may run. With ack="first" only now is it known what to settle."""
        if self.stage.ack is not AckMode.FIRST:
            return True
        won = await uninterrupted(self.early.win([delivery]))
        if won:
            return True
        if self.waiting is not None:
            self.waiting.pacer.let_go(delivery)
        return False
