"""What a simulation needs of its loop, and the loop of a test that keeps real time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol


class Timers(Protocol):
    """A loop in which a simulation runs: `VirtualLoop` says what these do."""

    def time(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle: ...

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: str | None = None) -> asyncio.Task[Any]: ...

    def background_sleep(self, seconds: float) -> asyncio.Future[None]: ...

    def call_sleep(self, seconds: float) -> asyncio.Future[None]: ...

    def note_activity(self) -> None: ...

    def stop_leaps_in(self, seconds: float) -> None: ...

    def on_leap(self, callback: Callable[[float], None]) -> None: ...


class RealTimers:
    """The running loop, whose clock never leaps."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self.call_later = self._loop.call_later
        self.create_task = self._loop.create_task

    def background_sleep(self, seconds: float) -> asyncio.Future[None]:
        """A future that is done after `seconds`."""
        future: asyncio.Future[None] = self._loop.create_future()
        timer = self._loop.call_later(seconds, _end, future)
        future.add_done_callback(lambda _: timer.cancel())
        return future

    def call_sleep(self, seconds: float) -> asyncio.Future[None]:
        """As in `Timers`."""
        return self.background_sleep(seconds)

    def note_activity(self) -> None:
        """As in `Timers`."""

    def stop_leaps_in(self, seconds: float) -> None:
        """As in `Timers`."""

    def on_leap(self, callback: Callable[[float], None]) -> None:
        """As in `Timers`."""


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
