"""The slots of one stage: each hands one delivery, or one batch, after another to the handler."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import copy_context
from typing import Any

from flowq.delivery.message import Delivery
from flowq.delivery.settlement import Interrupted, Outcome, Settlement
from flowq.graph.plan import StagePlan
from flowq.runtime.batching import gather, handle_batch
from flowq.runtime.concluding import conclude
from flowq.runtime.gauge import Gauge
from flowq.runtime.handling import Handling
from flowq.runtime.own_context import in_context, is_unchanged
from flowq.runtime.pacing import Pacer
from flowq.runtime.patience import until
from flowq.runtime.process_pool import ProcessHandling
from flowq.runtime.sleepers import Sleepers
from flowq.runtime.tempo import ONE_IN, Stopwatch
from flowq.runtime.waiting_room import WaitingRoom

_TURN_SECONDS = 0.002
_UNRESPONSIVE_SECONDS = 1.2

Settle = Callable[[str, tuple[Sequence[Delivery], Settlement]], None]
ConcludeEarly = Callable[[Delivery, Outcome], Awaitable[None]]


class Slots:
    """Long-lived tasks, as many as the stage has `concurrency`, which take from `todo`. No task for each message.

    What has been handled goes to `settle`, or in a stage that settles before its handler has finished to
    `conclude_early`. With `win_first` that is asked whether a delivery may start.
    """

    def __init__(
        self,
        stage: StagePlan,
        pacer: Pacer | None,
        waiting: WaitingRoom,
        gauge: Gauge,
        settle: Settle,
        *,
        win_first: Callable[[Delivery], Awaitable[bool]] | None = None,
        conclude_early: ConcludeEarly | None = None,
    ) -> None:
        self.todo: deque[Delivery] = deque()
        self.tasks: list[asyncio.Task[None]] = []
        self.stopwatch = Stopwatch()
        self._stage = stage
        self._pacer = pacer
        self._gauge = gauge
        self._settle = settle
        self._waiting = waiting
        self._win_first = win_first
        self._conclude_early = conclude_early
        self._idle = Sleepers()
        self._at_work: list[Sequence[Delivery]] = [()] * stage.concurrency
        self._gathering = asyncio.Lock()
        self._is_stopping = False
        self._interrupting = False

    def start(self, handling: Handling | ProcessHandling) -> None:
        """Begin to take from `todo`."""
        if isinstance(handling, Handling) and self._stage.batch:
            slots = [self._batch_slot(number, handling) for number in range(self._stage.concurrency)]
        else:
            slots = [self._slot(number, handling) for number in range(self._stage.concurrency)]
        self.tasks = [asyncio.create_task(slot) for slot in slots]

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Handle these as soon as slots are free."""
        self.todo.extend(deliveries)
        self._idle.wake(len(deliveries))

    @property
    def n_at_work(self) -> int:
        """Deliveries that have been started and not settled, but for those whose slot has died."""
        return sum(len(unit) for unit, slot in zip(self._at_work, self.tasks, strict=False) if not slot.done())

    @property
    def at_work(self) -> list[Delivery]:
        """The deliveries that have been started and not settled."""
        return [delivery for unit in self._at_work for delivery in unit]

    def gather_no_longer(self) -> None:
        """A batch that is still gathering shall wait no longer."""
        self._is_stopping = True
        self._idle.wake(len(self._idle))

    async def interrupt(self) -> None:
        """Cancel every handler, and wait a moment for those that do not end at once."""
        self._interrupting = True
        for slot in self.tasks:
            slot.cancel()
        await until(lambda: not self.n_at_work, _UNRESPONSIVE_SECONDS, asyncio.Event())

    async def _slot(self, number: int, handling: Handling | ProcessHandling) -> None:
        """Handle one delivery after another, each as if it were the first: what is set in a ContextVar stays with it.

        Nearly all handlers leave the context as it was, which is cheap to see. After one that does not, each is called
        in a copy of the context that the slot began with. A task for each would cost as much as all the rest.
        """
        todo, stage, settle, at_work, gauge = self.todo, self._stage, self._settle, self._at_work, self._gauge
        pacer, win_first, conclude_early = self._pacer, self._win_first, self._conclude_early
        interruptible, handle = self._interruptible, handling.handle
        stopwatch, clock = self.stopwatch, time.perf_counter
        at_first, is_as_at_first = copy_context(), True
        steps = 0
        while True:
            while not todo:
                await self._idle.sleep()
                steps = 0
            if pacer is not None:
                await self._due(number)
            delivery = todo.popleft()
            at_work[number] = unit = (delivery,)
            if win_first is not None and not await win_first(delivery):
                at_work[number] = ()
                continue
            started = clock() if steps % ONE_IN == 0 else 0.0
            if is_as_at_first:
                called = interruptible(handle, delivery)
            else:
                called = in_context(at_first.copy(), interruptible, handle, delivery)
            outcome = await (called if pacer is None else pacer.watch(delivery, called))
            is_as_at_first = is_as_at_first and is_unchanged(at_first)
            if conclude_early is None:
                settle(delivery.edge, (unit, conclude(outcome, delivery, stage.retry)))
            else:
                await conclude_early(delivery, outcome)
            at_work[number] = ()
            if started:
                stopwatch.add(clock() - started)
            steps += 1
            if steps > gauge.per_second * _TURN_SECONDS:
                # A handler that never waits would otherwise keep the loop from reading and settling.
                steps = 0
                await asyncio.sleep(0)

    async def _batch_slot(self, number: int, handling: Handling) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with self._gathering:
                batch = await self._gather(number)
            started = time.perf_counter()
            began_at = loop.time()
            outcomes = await in_context(copy_context(), handle_batch, handling, batch, self._interruptible_apart)
            for deliveries, outcome in outcomes:
                if self._pacer is not None:
                    outcome = await self._pacer.judge_all(deliveries, outcome, began_at)
                self._settle(deliveries[0].edge, (deliveries, conclude(outcome, deliveries[0], self._stage.retry)))
            self.stopwatch.add(time.perf_counter() - started)
            self._at_work[number] = ()

    async def _due(self, number: int) -> None:
        """Wait until there is something to be started whose turn it is. Those that have missed theirs ask again."""
        while (missed := self._waiting.missed(self.todo)) or not self.todo:
            if missed:
                self._at_work[number] = missed
                await self._waiting.admit(missed, again=True)
                self._at_work[number] = ()
            else:
                await self._idle.sleep()

    async def _gather(self, number: int) -> list[Delivery]:
        """Up to a batch of deliveries that end together. They count as running."""
        assert self._stage.batch is not None
        await self._due(number)
        self._at_work[number] = batch = [self.todo.popleft()]
        await gather(batch, self.todo, self._idle, self._stage.batch, lambda: self._is_stopping)
        return batch

    async def _interruptible(self, handle: Callable[..., Coroutine[Any, Any, Outcome]], *given: Any) -> Outcome:
        if self._interrupting:  # the next part of a batch that was interrupted
            return Interrupted()
        try:
            return await handle(*given)
        except asyncio.CancelledError:
            if not self._interrupting:
                raise
            return Interrupted()

    def _interruptible_apart(
        self, handle: Callable[..., Coroutine[Any, Any, Outcome]], *given: Any
    ) -> Coroutine[Any, Any, Outcome]:
        """The same in a context of its own."""
        return in_context(copy_context(), self._interruptible, handle, *given)
