"""Reads the edges of one stage and handles each delivery in one of a fixed number of slots."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

from flowq.broker.calls import insist
from flowq.broker.claims import claim_check
from flowq.broker.outlets import Outlets
from flowq.broker.reader import Reader
from flowq.broker.redis_streams import Broker
from flowq.broker.settling import Receipt, Settling
from flowq.delivery.message import Delivery
from flowq.delivery.policy import AckMode
from flowq.delivery.settlement import Delay, Interrupted, Outcome, Output, Postponed, Release, decide
from flowq.errors import BrokerUnavailable
from flowq.graph.emission import deduplicating_edges, edges_fed
from flowq.graph.plan import Plan, StagePlan
from flowq.runtime.batching import gather, handle_batch
from flowq.runtime.early_ack import EarlyAck
from flowq.runtime.gauge import Gauge
from flowq.runtime.handling import Handling
from flowq.runtime.held import Held
from flowq.runtime.identity import Identity
from flowq.runtime.pacing import Pacer, WaitingRoom
from flowq.runtime.patience import until
from flowq.runtime.process_pool import ProcessHandling
from flowq.runtime.reconciliation import Reconciliation
from flowq.runtime.settler import Chunk, Settler
from flowq.runtime.sleepers import Sleepers
from flowq.runtime.tempo import ONE_IN, Stopwatch

BLOCK_MS = 2000
_MOST_LOCAL = 1000
_TURN_SECONDS = 0.002
_UNRESPONSIVE_SECONDS, _LAST_WAIT_SECONDS, _UNBLOCK_EVERY_SECONDS = 1.2, 0.2, 0.05


class Consumer:
    """One stage in one process.

    Never holds more than its slots can take plus about a tenth of a second of work, so that slow stages spread over
    all workers; stops reading while an edge that it feeds is full.
    """

    def __init__(
        self, stage: StagePlan, plan: Plan, broker: Broker, identity: Identity, *, delayed: asyncio.Event | None = None
    ) -> None:
        self.stage = stage
        self.handling: Handling | ProcessHandling  # set by start()
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
        self._todo: deque[Delivery] = deque()
        self._held = Held()
        self._idle = Sleepers()
        self._room = asyncio.Event()
        self._gauge = Gauge()
        self.stopwatch = Stopwatch()
        self._outlets = Outlets(broker, edges_fed(plan, stage))
        self._stopping = self._paused = self._interrupting = False
        self._tasks: list[asyncio.Task[None]] = []
        self._slots: list[asyncio.Task[None]] = []
        self._at_work: list[Sequence[Delivery]] = [()] * stage.concurrency
        self._gathering = asyncio.Lock()
        self._reconciliation = Reconciliation(broker, stage.in_edges)
        self._pacer = Pacer(stage, plan, stage.rate, broker, identity) if stage.rate else None
        self._waiting = WaitingRoom(self._pacer, start=self._start, postpone=self._postpone)
        self._early = EarlyAck(
            broker, stage, self._settler, self._handle, deduplicating=deduplicating, outlets=self._outlets
        )

    # Life

    async def connect(self) -> None:
        """Open the connections, however long that takes: each begins an epoch, and would part what belongs together."""
        await insist(self._reader.connect, what=f"connecting {self.stage.name}")
        await self.settling.connect()

    def start(self, handling: Handling | ProcessHandling) -> None:
        """Begin to read and handle."""
        self.handling = handling
        spawn = asyncio.create_task
        slot = self._batch_slot if self.stage.batch else self._slot
        self._slots = [spawn(slot(number)) for number in range(self.stage.concurrency)]
        self._tasks = [spawn(self._read()), spawn(self._settler.run())]
        if self._pacer is not None:
            self._tasks.append(spawn(self._pacer.run()))

    @property
    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """Everything that must keep running for as long as the stage does."""
        return (*self._tasks, *self._slots)

    @property
    def silent_seconds(self) -> float:
        return self._reader.silent_seconds

    @property
    def running(self) -> int:
        """Deliveries that have been started and not settled, but for those whose slot has died."""
        return sum(len(unit) for unit, slot in zip(self._at_work, self._slots, strict=False) if not slot.done())

    async def stop(self, grace_seconds: float, hurry: asyncio.Event) -> None:
        """Read nothing new, hand back what has not started, finish the rest within `grace_seconds` or hand it back."""
        self._stopping = True
        self._room.set()
        self._release_unstarted()
        self._idle.wake(len(self._idle))  # a batch that is still gathering shall wait no longer
        await self._settler.flush()
        await until(lambda: not self.running, grace_seconds, hurry)
        await self._settler.flush()
        if self.running:
            self._interrupting = True
            for slot in self._slots:
                slot.cancel()
            await until(lambda: not self.running, _UNRESPONSIVE_SECONDS, asyncio.Event())
            await self._settler.flush()
        self._release_unresponsive()
        await self._settler.flush()

    async def close(self) -> None:
        """End the loops. The read under way is waited for: it may bring deliveries, which are handed back."""
        if not self._tasks:
            return
        reading = self._tasks[0]
        while not reading.done():
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
        """End the loops as they are. Handlers that will not be cancelled are left behind."""
        if self._tasks:
            for task in self.tasks:
                task.cancel()
            await asyncio.wait(self.tasks, timeout=_LAST_WAIT_SECONDS)
        await self._reader.close()
        await self._settler.close()

    async def set_paused(self, paused: bool) -> None:
        """Paused: read nothing new, hand back what has not started, let the rest finish. Repeat it while it lasts."""
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
            elif self._outlets.need_a_look:
                await self._outlets.look_again()
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
        # Who waits for a turn here must not keep those of other keys from being read, up to a bound.
        held = self._held.n - min(self._waiting.n, _MOST_LOCAL)
        return self._gauge.room(wanted, self._outlets.bound(_MOST_LOCAL), held=held)

    async def take(self, deliveries: Sequence[Delivery]) -> None:
        """Handle these, except for what is already held, each when its turn comes."""
        if not self._held.n:
            self._gauge.begin(self._now())
        new = self._held.take(deliveries)
        if len(new) < len(deliveries):
            # Given again while at hand: the group is another one, and the old one's answer to a commit under way
            # would be taken for the end of what the new one keeps pending.
            self._reconciliation.hasten()
        if self._pacer is not None and new:
            await self._waiting.admit(new)
        else:
            self._start(new)

    def _start(self, deliveries: Sequence[Delivery]) -> None:
        self._todo.extend(deliveries)
        if self._stopping or self._paused:  # a read that was under way has brought them
            self._release_unstarted()
        self._idle.wake(len(deliveries))

    def _postpone(self, delivery: Delivery, postponed: Postponed) -> None:
        self._settler.add(delivery.edge, ((delivery,), decide(postponed, delivery, self.stage.retry, 0.0)))

    async def _due(self, number: int) -> None:
        """Wait until there is something to be started whose turn it is. Those that have missed theirs ask again."""
        while (missed := self._waiting.missed(self._todo)) or not self._todo:
            if missed:
                self._at_work[number] = missed
                await self._waiting.admit(missed, again=True)
                self._at_work[number] = ()
            else:
                await self._idle.sleep()

    @property
    def room(self) -> int:
        """How many reclaimed deliveries may be taken over now."""
        return 0 if self._stopping or self._paused else max(0, self.stage.concurrency + _MOST_LOCAL - self._held.n)

    # Handling

    async def _slot(self, number: int) -> None:
        """Handle one delivery after another."""
        todo, stage, settler, at_work, gauge = self._todo, self.stage, self._settler, self._at_work, self._gauge
        pacer = self._pacer
        stopwatch, clock = self.stopwatch, time.perf_counter
        steps = 0
        while True:
            while not todo:
                await self._idle.sleep()
                steps = 0
            if pacer is not None:
                await self._due(number)
            delivery = todo.popleft()
            at_work[number] = unit = (delivery,)
            started = clock() if steps % ONE_IN == 0 else 0.0
            if stage.ack is AckMode.AFTER:
                handling = self._interruptible(self.handling.handle(delivery))
                outcome = await (handling if pacer is None else pacer.watch(delivery, handling))
                settler.add(delivery.edge, (unit, decide(outcome, delivery, stage.retry, random.random())))
            else:
                await self._early.handle(delivery)
            at_work[number] = ()
            if started:
                stopwatch.add(clock() - started)
            steps += 1
            if steps > gauge.per_second * _TURN_SECONDS:
                # A handler that never waits would otherwise keep the loop from reading and settling.
                steps = 0
                await asyncio.sleep(0)

    async def _batch_slot(self, number: int) -> None:
        """Handle one batch after another."""
        handling = self.handling
        assert isinstance(handling, Handling)  # a batch does not go to other processes: the compiler refuses it
        while True:
            async with self._gathering:
                batch = await self._gather(number)
            started = time.perf_counter()
            began_at = self._now()
            for deliveries, outcome in await handle_batch(handling, batch, self._interruptible):
                if self._pacer is not None:
                    outcome = await self._pacer.judge_all(deliveries, outcome, began_at)
                settlement = decide(outcome, deliveries[0], self.stage.retry, random.random())
                self._settler.add(deliveries[0].edge, (deliveries, settlement))
            self.stopwatch.add(time.perf_counter() - started)
            self._at_work[number] = ()

    async def _gather(self, number: int) -> list[Delivery]:
        """Up to a batch of deliveries that end together. They count as running."""
        assert self.stage.batch is not None
        await self._due(number)
        self._at_work[number] = batch = [self._todo.popleft()]
        await gather(batch, self._todo, self._idle, self.stage.batch, lambda: self._stopping)
        return batch

    async def _handle(self, delivery: Delivery) -> Outcome:
        handling = self._interruptible(self.handling.handle(delivery))
        return await (handling if self._pacer is None else self._pacer.watch(delivery, handling))

    async def _interruptible(self, handling: Coroutine[Any, Any, Outcome]) -> Outcome:
        if self._interrupting:  # the next part of a batch that was interrupted
            handling.close()
            return Interrupted()
        try:
            return await handling
        except asyncio.CancelledError:
            if not self._interrupting:
                raise
            return Interrupted()

    # Settling

    async def commit(self, delivery: Delivery, outputs: Sequence[Output]) -> None:
        """Settle a delivery while its handler is still running."""
        await self._early.commit(delivery, outputs)

    def _on_settled(self, edge: str, chunk: Chunk, receipt: Receipt) -> None:
        finished = self._held.let_go(edge, chunk.items)
        # What only waits for its turn has cost no time: counted as work, it would have the whole edge read ahead.
        postponed = sum(isinstance(settlement, Delay) and not settlement.counted for _, settlement in chunk.items)
        self._gauge.count(max(0, finished - postponed), self._now())
        self._outlets.note(receipt.outstanding)
        self._outlets.sent(chunk.n_bytes, handled=finished)
        if self._pacer is not None and postponed:
            self._pacer.queued(settlement.queue_key for _, settlement in chunk.items if isinstance(settlement, Delay))
        if receipt.delayed and self._delayed is not None:
            self._delayed.set()
        self._room.set()

    def _release_unstarted(self) -> None:
        self._todo.extend(self._waiting.empty())
        while self._todo:
            delivery = self._todo.popleft()
            if self._pacer is not None:
                self._pacer.let_go(delivery)
            self._settler.add(delivery.edge, ((delivery,), Release()))

    def _release_unresponsive(self) -> None:
        """Hand back what still runs: this process is about to end, and the handlers with it."""
        for delivery in [delivery for unit in self._at_work for delivery in unit]:
            self._settler.add(delivery.edge, ((delivery,), Release()))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
