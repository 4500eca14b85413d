"""Calls in executors, one at a time, and only while the loop has nothing else to do: no race decides their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class _Call:
    submit: Callable[[], Future[Any]]
    result: asyncio.Future[Any]
    running: Future[Any] | None = None


class ExecutorCalls:
    """The calls that have not ended, in the order in which they were made. They take no virtual time.

    `wake` is called in the thread of a call that has ended.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._calls: deque[_Call] = deque()
        self._given_up: list[_Call] = []

    def add(self, submit: Callable[[], Future[Any]], result: asyncio.Future[Any]) -> None:
        """Make a call when its turn comes, and give `result` what it returns or raises."""
        self._calls.append(_Call(submit, result))

    @property
    def are_waited_for(self) -> bool:
        """Whether the clock must stand still: a call has not ended, and is not given up."""
        return bool(self._calls)

    @property
    def is_any_endless(self) -> bool:
        """Whether a call that was given up has still not ended."""
        return any(call.running is not None and not call.running.done() for call in self._given_up)

    def step(self) -> bool:
        """Start the first call, or deliver what it has returned. Returns whether something was delivered."""
        for call in self._given_up:
            if call.running is not None and call.running.done():
                self._given_up.remove(call)
                return _deliver(call.running, call.result)
        while self._calls:
            call = self._calls[0]
            if call.running is None and not call.result.done():
                self._start(call)
                return False
            if call.running is not None and not (call.running.done() or call.result.done()):
                return False
            self._calls.popleft()
            if call.running is not None and call.running.done():
                return _deliver(call.running, call.result)
        return False

    def give_up_first(self) -> None:
        """Wait no longer for the first call: it may need its timeout, and for that the clock has to move."""
        self._given_up.append(self._calls.popleft())

    def _start(self, call: _Call) -> None:
        try:
            call.running = call.submit()
        except RuntimeError as error:  # the executor has been shut down
            call.running = Future()
            call.running.set_exception(error)
        call.running.add_done_callback(lambda _: self._wake())


def _deliver(running: Future[Any], result: asyncio.Future[Any]) -> bool:
    if result.done():  # cancelled
        return False
    if running.cancelled():
        result.cancel()
    elif (error := running.exception()) is not None:
        result.set_exception(error)
    else:
        result.set_result(running.result())
    return True
