"""Reads the edges of one stage and handles each delivery in one of a fixed number of slots."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

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
from flowq.runtime.early_ack import EarlyAck
from flowq.runtime.gauge import Gauge
from flowq.runtime.handling import Handling
from flowq.runtime.held import Held
from flowq.runtime.identity import Identity
from flowq.runtime.outbox import Outbox
from flowq.runtime.pacing import Pacer
from flowq.runtime.patience import until
from flowq.runtime.process_pool import ProcessHandling
from flowq.runtime.reconciliation import Reconciliation
from flowq.runtime.settler import Chunk, Settler
from flowq.runtime.slots import Slots
from flowq.runtime.tempo import Stopwatch
from flowq.runtime.waiting_room import WaitingRoom

BLOCK_MS = 2000
_MOST_LOCAL = 1000
_LOOK_FOR_ROOM_EVERY = 16  # messages
_LAST_WAIT_SECONDS, _UNBLOCK_EVERY_SECONDS = 0.2, 0.05


class Consumer:
    """One stage in one process.

    Never holds more than its slots can take plus about a tenth of a second of work, so that slow stages spread over
    all workers; stops reading while an edge that it feeds is full.
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
        self._held = Held()
        self._room = asyncio.Event()
        self._gauge = Gauge()
        self._outlets = Outlets(broker, edges_fed(plan, stage))
        self._stopping = self._paused = False
        self._tasks: list[asyncio.Task[None]] = []
        self._reconciliation = Reconciliation(broker, stage.in_edges)
        self._pacer = Pacer(stage, plan, stage.rate, broker, identity) if stage.rate else None
        self._waiting = WaitingRoom(self._pacer, start=self._start, postpone=self._postpone)
        # Of a stage with a rate nobody knows what may start until it does: each is settled by itself then.
        self._settles_ahead = stage.ack is AckMode.FIRST and stage.rate is None
        outbox = Outbox(broker, stage.name, self.settling, self._outlets, has_room=self._room)
        self._early = EarlyAck(
            broker, stage, self._settler, outbox, start=lambda won: self._slots.add(won), lost=self._let_go_of_turn
        )
        self._slots = Slots(
            stage,
            self._pacer,
            self._waiting,
            self._gauge,
            self._settler.add,
            win_first=self._win_first if stage.ack is AckMode.FIRST and not self._settles_ahead else None,
            conclude_early=self._conclude_early if early else None,
        )

    # Life

    async def connect(self) -> None:
        """Open the connections, however long that takes: each begins an epoch, and would part what belongs together."""
        await insist(self._reader.connect, what=f"connecting {self.stage.name}")
        await self.settling.connect()

    def start(self, handling: Handling | ProcessHandling) -> None:
        """Begin to read and handle."""
        self._slots.start(handling)
        self._tasks = [asyncio.create_task(work) for work in (self._read(), self._settler.run())]
        if self._pacer is not None:
            self._tasks.append(asyncio.create_task(self._pacer.run()))
        if self.stage.ack is not AckMode.AFTER:
            self._tasks += [asyncio.create_task(work) for work in (self._early.run(), self._early.outbox.run())]

    @property
    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """Everything that must keep running for as long as the stage does."""
        return (*self._tasks, *self._slots.tasks)

    @property
    def silent_seconds(self) -> float:
        return self._reader.silent_seconds

    @property
    def running(self) -> int:
        """Deliveries that have been started, or settled, and are not done with."""
        return self._slots.n_at_work + self._early.n_under_way + self._n_settled_unstarted

    @property
    def _n_settled_unstarted(self) -> int:
        return len(self._slots.todo) if self._settles_ahead else 0

    @property
    def _n_at_hand(self) -> int:
        """Deliveries that are held, or were settled before their handler, and their outputs are not published yet."""
        settled = self._slots.n_at_work + self._n_settled_unstarted if self._settles_ahead else 0
        return self._held.n + settled + len(self._early.outbox)

    @property
    def stopwatch(self) -> Stopwatch:
        return self._slots.stopwatch

    async def stop(self, grace_seconds: float, hurry: asyncio.Event) -> None:
        """Read nothing new, hand back what has not started, finish the rest within `grace_seconds` or hand it back."""
        self._stopping = True
        self._room.set()
        self._release_unstarted()
        self._slots.gather_no_longer()
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
        """End the loops. The read under way is waited for: it may bring deliveries, which are handed back."""
        reading = self._tasks[0] if self._tasks else None  # none when the start has failed half-way
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
        held = self._n_at_hand - min(self._waiting.n, _MOST_LOCAL)
        return self._gauge.room(wanted, self._outlets.bound(_MOST_LOCAL), held=held)

    async def take(self, deliveries: Sequence[Delivery]) -> None:
        """Handle these, except for what is already held, each when its turn comes."""
        if not self._n_at_hand:
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
        if self._settles_ahead:
            self._early.admit(deliveries)
        else:
            self._slots.add(deliveries)
        if self._stopping or self._paused:  # a read that was under way has brought them
            self._release_unstarted()

    def _postpone(self, delivery: Delivery, postponed: Postponed) -> None:
        self._settler.add(delivery.edge, ((delivery,), decide(postponed, delivery, self.stage.retry, 0.0)))

    @property
    def room(self) -> int:
        """How many reclaimed deliveries may be taken over now."""
        return 0 if self._stopping or self._paused else max(0, self.stage.concurrency + _MOST_LOCAL - self._n_at_hand)

    # Settling

    async def commit(self, delivery: Delivery, outputs: Sequence[Output]) -> None:
        """Settle a delivery while its handler is still running."""
        await self._early.commit(delivery, outputs)

    def _on_settled(self, edge: str, chunk: Chunk, receipt: Receipt) -> None:
        finished = self._held.let_go(edge, chunk.items)
        # What only waits for its turn has cost no time: counted as work, it would have the whole edge read ahead.
        postponed = sum(isinstance(settlement, Delay) and not settlement.counted for _, settlement in chunk.items)
        if not self._settles_ahead:
            self._gauge.count(max(0, finished - postponed), self._now())
        self._outlets.note(receipt.outstanding)
        self._outlets.sent(chunk.n_bytes, handled=finished)
        if self._pacer is not None and postponed:
            self._pacer.queued(settlement.queue_key for _, settlement in chunk.items if isinstance(settlement, Delay))
        if receipt.delayed and self._delayed is not None:
            self._delayed.set()
        self._room.set()

    async def _win_first(self, delivery: Delivery) -> bool:
        return bool(await self._early.win([delivery]))

    async def _conclude_early(self, delivery: Delivery, outcome: Outcome) -> None:
        await self._early.conclude(delivery, outcome)
        if self._settles_ahead:
            self._gauge.count(1, self._now())
            if len(self._slots.todo) % _LOOK_FOR_ROOM_EVERY == 0:
                self._room.set()

    def _release_unstarted(self) -> None:
        unstarted = [*self._waiting.empty(), *self._early.withdraw()]
        if not self._settles_ahead:
            unstarted += self._slots.todo
            self._slots.todo.clear()
        for delivery in unstarted:
            self._let_go_of_turn(delivery)
            self._settler.add(delivery.edge, ((delivery,), Release()))

    def _let_go_of_turn(self, delivery: Delivery) -> None:
        if self._pacer is not None:
            self._pacer.let_go(delivery)

    async def _give_up_the_rest(self) -> None:
        """Hand back what still runs, for this process is about to end, and the handlers with it.

        What was settled before cannot be handed back, and becomes a dead letter.
        """
        await self._early.until_started()
        rest = self._slots.at_work
        if self._settles_ahead:
            rest += self._slots.todo
            self._slots.todo.clear()
        for delivery in rest:
            if self._early.is_settled(delivery):
                await self._early.conclude(delivery, Interrupted())
            else:
                self._settler.add(delivery.edge, ((delivery,), Release()))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
