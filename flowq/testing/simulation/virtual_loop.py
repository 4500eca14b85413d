"""An event loop with a virtual clock: when nothing is ready, the clock moves to the next timer."""

from __future__ import annotations

import asyncio
import heapq
import math
import selectors
from asyncio import tasks
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from flowq.errors import FlowqError, UsageError
from flowq.testing.simulation.executor_calls import ExecutorCalls

__tracebackhide__ = True  # pytest shows the line of the test

T = TypeVar("T")

_LONGEST_CALL_SECONDS = 30.0
"""In real time. After that, the clock moves although a call in an executor has not ended: it may need its timeout."""
_REAL_INPUT_SECONDS = 0.002
"""In real time: what a socket of a handler may take to answer before the clock moves."""


class NothingLeft(FlowqError):
    """The clock cannot move any more: every task waits for another one without a timer, or one never waits at all."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` moves only when nothing else can happen, and then to the next timer at once.

    Timers of `background_sleep` are those of polls that repeat for ever. When nothing but them has happened for
    `quiet_seconds`, the clock *leaps* to the next other timer or stop, and each of them ends once, at that moment.
    Without any of these, `run` raises NothingLeft after `stuck_seconds`. It does so as well when the clock has stood
    still for `most_turns` of the loop, some 10 s in real time: something polls with sleep(0).

    Calls in executors take no virtual time. They are made one at a time, while nothing else is ready, so that the same
    seed leads to the same order.
    """

    def __init__(self, *, quiet_seconds: float = 1.0, stuck_seconds: float = 60.0, most_turns: int = 1_000_000) -> None:
        self.quiet_seconds = quiet_seconds
        self.stuck_seconds = stuck_seconds
        self.most_turns = most_turns
        self.n_leaps = 0
        self._now = 0.0
        self._active_at = 0.0  # when anything but a background poll happened
        self._stops: list[float] = []  # beyond which no leap goes
        self._stopped_at = 0.0  # the last of them
        self._n_calls = 0  # that are on their way
        self._on_leap: list[Callable[[float], None]] = []
        self._background: list[tuple[float, int, asyncio.Future[None]]] = []
        self._n_sleeps = 0
        self.executor_calls = ExecutorCalls(self._wake)
        self._threads: ThreadPoolExecutor | None = None
        super().__init__(_VirtualSelector(self))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, also inside a task of another loop.

        Raises NothingLeft, and UsageError in a task of this loop.
        """
        if self.is_running():  # the loop would refuse as well, but run the coroutine nevertheless
            main.close()
            raise UsageError(
                "a handler cannot call the harness that it runs in",
                hint="return messages, or send them with ctx.emit(stage, message); the test itself feeds and drains",
            )
        outer = asyncio._get_running_loop()
        task = asyncio.current_task(outer) if outer else None
        if outer is not None and task is not None:
            tasks._leave_task(outer, task)
        asyncio._set_running_loop(None)
        try:
            return self._run_alone(main)
        finally:
            asyncio._set_running_loop(outer)
            if outer is not None and task is not None:
                tasks._enter_task(outer, task)

    def _run_alone(self, main: Coroutine[Any, Any, T]) -> T:
        self.note_activity()  # what happened before this run says nothing about how quiet it is now
        task = self.create_task(main)
        try:
            return self.run_until_complete(task)
        except NothingLeft:
            task.cancel()
            self.note_activity()
            self.run_until_complete(asyncio.wait([task]))
            if not task.cancelled():
                task.exception()
            raise

    # Background sleeps, and leaps over them

    def background_sleep(self, seconds: float) -> asyncio.Future[None]:
        """A future that is done after `seconds`, or later by a leap. For polls that repeat for ever."""
        future: asyncio.Future[None] = self.create_future()
        self._n_sleeps += 1
        heapq.heappush(self._background, (self._now + max(0.0, seconds), self._n_sleeps, future))
        return future

    def call_sleep(self, seconds: float) -> asyncio.Future[None]:
        """The same for a call that is on its way: no leap before it has arrived."""
        future = self.background_sleep(seconds)
        self._n_calls += 1
        future.add_done_callback(self._end_call)
        return future

    def _end_call(self, _: asyncio.Future[None]) -> None:
        self._n_calls -= 1

    def note_activity(self) -> None:
        """Something other than a background poll has happened: no leap for a while."""
        self._active_at = self._now

    def stop_leaps_in(self, seconds: float) -> None:
        """No leap goes beyond this moment: a background poll may find something then, such as an ended lease."""
        heapq.heappush(self._stops, self._now + seconds)

    def on_leap(self, callback: Callable[[float], None]) -> None:
        """Call it with the size of each leap in seconds, before the clock moves."""
        self._on_leap.append(callback)

    def advance(self, seconds: float | None) -> None:
        """Nothing is ready: move the clock. `seconds`: until the next timer that is not in the background."""
        timer = None if seconds is None else self._now + seconds
        poll = self._next_background()
        if poll is None and timer is None:
            raise _nothing_left()
        if timer is not None and (poll is None or timer <= poll):
            self._move_to(timer)
            self.note_activity()
            return
        assert poll is not None
        goal = self._end_of_leap(poll, timer)
        if self._n_calls == 0:
            if goal is not None and poll - self._active_at > self.quiet_seconds:
                self._leap(goal)
                if goal == timer:
                    self.note_activity()
                return
            if goal is None and poll - max(self._active_at, self._stopped_at) > self.stuck_seconds:
                raise _nothing_left()
        self._move_to(max(self._now, poll))
        self._end_background_sleeps()

    def _move_to(self, moment: float) -> None:
        self._now = moment
        # A timer is due before now + resolution. After a hundred days, a nanosecond added to a float changes nothing.
        self._clock_resolution = max(1e-9, math.ulp(moment))

    def seconds_to_timer(self) -> float:
        """Until the next timer that is not in the background. Some timer is set, and none is due."""
        timers: list[asyncio.TimerHandle] = vars(self)["_scheduled"]
        return timers[0].when() - self._now

    def _end_of_leap(self, poll: float, timer: float | None) -> float | None:
        """How far a leap would go."""
        while self._stops and self._stops[0] <= poll:
            self._stopped_at = heapq.heappop(self._stops)  # the next poll is after it anyway
        return min([*self._stops[:1], *([] if timer is None else [timer])], default=None)

    def _leap(self, goal: float) -> None:
        self.n_leaps += 1
        for callback in self._on_leap:
            callback(goal - self._now)
        self._move_to(goal)
        self._end_background_sleeps()

    def _next_background(self) -> float | None:
        while self._background and self._background[0][2].done():  # cancelled
            heapq.heappop(self._background)
        return self._background[0][0] if self._background else None

    def _end_background_sleeps(self) -> None:
        while self._background and self._background[0][0] <= self._now:
            future = heapq.heappop(self._background)[2]
            if not future.done():
                future.set_result(None)

    # Executors, which take no virtual time

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run it elsewhere while the virtual clock stands still."""
        if executor is None:
            executor = self._threads = self._threads or ThreadPoolExecutor(thread_name_prefix="virtual")
        result: asyncio.Future[T] = self.create_future()
        self.executor_calls.add(partial(executor.submit, func, *args), result)
        return result

    def _wake(self) -> None:
        if not self.is_closed():
            self.call_soon_threadsafe(_nothing)

    def close(self) -> None:
        """End it, and the threads that it has started, unless one has a call that may never end."""
        if self._threads is not None:
            self._threads.shutdown(wait=not self.executor_calls.is_any_endless, cancel_futures=True)
            self._threads = None
        super().close()


class _VirtualSelector(selectors.BaseSelector):
    """Waits for real input only where something real can come; otherwise it moves the clock of its loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()
        self._n_turns = 0  # of the loop, since it last had nothing to do

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._real.select(0)
        if events or (timeout is not None and timeout <= 0):
            self._n_turns += 1
            if self._n_turns > self._loop.most_turns:
                self._n_turns = 0
                raise NothingLeft("the clock stands still: a task polls with sleep(0), or without a pause")
            return events
        self._n_turns = 0
        loop = self._loop
        calls = loop.executor_calls
        if calls.step():
            loop.note_activity()
            return []
        if calls.are_waited_for:
            if not (events := self._real.select(_LONGEST_CALL_SECONDS)):
                calls.give_up_first()
            return events
        if len(self._real.get_map()) > 1 and (events := self._real.select(_REAL_INPUT_SECONDS)):
            return events
        # asyncio waits for a day at most, and looks again: each look would be one more leap.
        loop.advance(timeout if timeout is None else max(timeout, loop.seconds_to_timer()))
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def _nothing() -> None:
    """Called only so that the loop looks at what has ended."""


def _nothing_left() -> NothingLeft:
    return NothingLeft("nothing can happen any more", hint="every task waits for another one: look for what they wait")
