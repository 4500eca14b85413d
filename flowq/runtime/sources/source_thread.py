"""Runs an iterator that may block in its own thread."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any, cast

from flowq.delivery.chunks import MOST_BYTES_PER_CALL, MOST_PER_CALL
from flowq.graph.declaration.source_context import Saved
from flowq.printable import error_repr
from flowq.runtime.sources.source_intake import Taken
from flowq.runtime.waiting import is_set_within

log = logging.getLogger("flowq.runtime")


class SourceThread:
    """The thread of one source. `start` makes the iterator and `take` encodes each value, both in that thread.

    Not asyncio's default executor: endless sources would occupy its few threads, which name resolution needs too. The
    thread waits when 1,000 values or 8 MB have not been fetched. It is a daemon, so that one stuck in the user's code
    does not keep the program from exiting.
    """

    def __init__(self, name: str, start: Callable[[], Any], take: Callable[[Any, Any], Taken]) -> None:
        self._name = name
        self._start = start
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._taken: deque[Taken] = deque()
        self._n_bytes = 0
        self._lock = threading.Condition()
        self._news = asyncio.Event()
        self._is_loop_woken = False  # it will look; no need to wake it again
        self._is_stopping = False
        self._error: BaseException | None = None
        self._has_started = False
        self._ended = asyncio.Event()

    async def batches(self) -> AsyncGenerator[list[Taken], None]:
        """What has been yielded and recorded, in order. Then raises what the iterator raised, if it did."""
        self._has_started = True
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name=f"flowq-source {self._name}", daemon=True).start()
        while True:
            await self._news.wait()
            self._news.clear()
            if batch := self._fetch():
                yield batch
            if self._ended.is_set() and not self._taken:
                break
        if self._error is not None:
            raise self._error

    async def stop(self, seconds: float) -> None:
        """Have the thread close the iterator, and wait at most this long for it."""
        with self._lock:
            self._is_stopping = True
            self._lock.notify_all()
        if self._has_started:
            await is_set_within(self._ended, seconds)

    def keep(self, taken: Taken) -> None:
        """Add something in the order in which it was yielded. Called in the thread; waits for room."""
        with self._lock:
            while self._is_full and not self._is_stopping:
                self._lock.wait()
            if self._is_stopping:
                return
            self._taken.append(taken)
            self._n_bytes += _size(taken)
            if self._is_loop_woken:
                return
            self._is_loop_woken = True
        self._wake_loop(self._news.set)

    @property
    def _is_full(self) -> bool:
        return len(self._taken) >= MOST_PER_CALL or self._n_bytes > MOST_BYTES_PER_CALL

    def _fetch(self) -> list[Taken]:
        with self._lock:
            batch = list(self._taken)
            self._taken.clear()
            self._n_bytes, self._is_loop_woken = 0, False
            self._lock.notify_all()
        return batch

    def _run(self) -> None:
        try:
            self._read_all()
        except BaseException as error:  # noqa: BLE001  (the user's code: SystemExit and KeyboardInterrupt as well)
            if self._is_stopping:
                log.warning("source %s failed while it was being stopped: %s", self._name, error_repr(error))
            self._error = error
        self._wake_loop(self._end)

    def _read_all(self) -> None:
        iterator = cast("Iterator[Any]", iter(self._start()))
        try:
            for value in iterator:
                self.keep(self._take(value, iterator))
                if self._is_stopping:
                    break
        finally:
            if isinstance(iterator, Generator):
                iterator.close()  # its cleanup belongs to the thread in which it ran

    def _end(self) -> None:
        self._ended.set()
        self._news.set()

    def _wake_loop(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed
            self._is_stopping = True


def _size(taken: Taken) -> int:
    return len(taken.cursor) if isinstance(taken, Saved) else sum([len(entry.body) for entry in taken])
