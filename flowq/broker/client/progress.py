"""Deadlines for calls over slow links: they expire when no bytes move, not when the last byte is late."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import termios
from collections.abc import Callable
from typing import Any

_SLOWEST_BYTES_PER_SECOND = 250_000
"""A request may be in buffers between here and Redis, where its progress cannot be seen."""
_SMALL_BYTES = 65_536
"""A smaller request is sent at once; if the kernel still holds some of it, the server does not answer."""

Moved = tuple[int, int, int]
"""Changes while bytes move: reads from the socket; of a large request also what is not sent yet."""


class StallWatch:
    """Fails a call with TimeoutError when no byte has moved on its connection for `seconds`, in either direction.

    One timer serves all calls of a connection: most end long before it fires, and setting one for each would be a part
    of the cost of a call.
    """

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self.n_reads = 0  # counted by the connection
        self.on_progress: Callable[[], None] = lambda: None  # called when a call past its deadline has made progress
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._goes_off_at = 0.0
        self._call: asyncio.Future[Any] | None = None
        self._seconds = self._since = 0.0
        self._is_large = False
        self._seen: Moved = (0, 0, 0)

    def begin(self, call: asyncio.Future[Any], seconds: float, n_bytes: int) -> None:
        """A call begins, with a request of `n_bytes`."""
        self._call = call
        self._seconds = seconds = seconds + n_bytes / _SLOWEST_BYTES_PER_SECOND
        self._since = now = self._loop.time()
        self._is_large = n_bytes > _SMALL_BYTES
        self._seen = self._look()
        if self._timer is None or now + seconds < self._goes_off_at:
            self._set(now + seconds)

    def end(self) -> asyncio.Future[Any] | None:
        """The call is over. Returns it if it waits for its result."""
        call, self._call = self._call, None
        return None if call is None or call.done() else call

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, due: float) -> None:
        self.close()
        self._goes_off_at = due
        self._timer = self._loop.call_at(due, self._check)

    def _look(self) -> Moved:
        if not self._is_large:
            return self.n_reads, 0, 0
        return self.n_reads, self._transport.get_write_buffer_size(), _unsent_bytes(self._transport)

    def _check(self) -> None:
        self._timer = None
        if self._call is None or self._call.done():
            return
        if (due := self._since + self._seconds) > self._loop.time():  # of another call, which began later
            self._set(due)
        elif (seen := self._look()) == self._seen:
            self._call.set_exception(TimeoutError())
        else:
            self._seen = seen
            self._since = self._loop.time()
            self.on_progress()
            self._set(self._since + self._seconds)


def _unsent_bytes(transport: asyncio.WriteTransport) -> int:
    """What the kernel holds and the other side has not acknowledged."""
    n_bytes = array.array("i", [0])
    with contextlib.suppress(OSError, ValueError, AttributeError):  # not every socket supports it
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, n_bytes)
    return n_bytes[0]
