"""Deadlines for calls over slow links: they expire when no bytes move, not when the last byte is late."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import termios
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Literal

from redis.asyncio.connection import Connection, DefaultParser

if TYPE_CHECKING:
    from redis._parsers.hiredis import _AsyncHiredisParser as Parser  # pyright: ignore[reportPrivateUsage]
else:
    Parser = DefaultParser

_SLOWEST_BYTES_PER_SECOND = 250_000
"""A request may be in buffers between here and Redis, where its progress cannot be seen."""
_SMALL_BYTES = 65_536
"""A smaller request is sent at once; if the kernel still holds some of it, the server does not answer."""


Moved = tuple[int, int, int]
"""Changes while bytes move: reads from the socket; of a large request also what is not sent yet."""


class WatchedParser(Parser):
    """Reads replies like its base class, and counts the reads that have begun."""

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size=socket_read_size)
        self.n_reads = 0
        self._transport: asyncio.WriteTransport | None = None

    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)  # type: ignore[no-untyped-call]
        self._transport = connection._writer.transport

    def read_from_socket(self) -> CoroutineType[Any, Any, Literal[True]]:
        self.n_reads += 1  # not when it ends: that would need one more coroutine for each
        return super().read_from_socket()  # type: ignore[no-untyped-call, return-value]

    def n_unsent(self) -> tuple[int, int]:
        """How many bytes have not left this process, and how many have not arrived at the other end."""
        if self._transport is None:
            return 0, 0
        return self._transport.get_write_buffer_size(), _unsent_bytes(self._transport)


def _unsent_bytes(transport: asyncio.WriteTransport) -> int:
    """What the kernel holds and the other side has not acknowledged."""
    n_bytes = array.array("i", [0])
    with contextlib.suppress(OSError, ValueError, AttributeError):  # not every socket supports it
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, n_bytes)
    return n_bytes[0]


class StallWatch:
    """Expires the deadline of a call when no byte has moved on its connection for `seconds`, in either direction.

    A connection that cannot be watched gets that time for the whole call. One timer serves all calls of a connection:
    most end long before it fires, and setting one for each would be a part of the cost of a call.
    """

    def __init__(self, connection: Connection, on_progress: Callable[[], None]) -> None:
        self._on_progress = on_progress
        self._parser: Any = connection._parser  # pyright: ignore[reportPrivateUsage]
        self._is_watched = isinstance(self._parser, WatchedParser)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._goes_off_at = 0.0
        self._deadline: asyncio.Timeout | None = None  # None: no call is under way
        self._seconds = self._since = 0.0
        self._is_large = False
        self._first_read = 0
        self._seen: Moved | None = None

    def begin(self, deadline: asyncio.Timeout, seconds: float, n_bytes: int) -> None:
        """A call begins, with a request of `n_bytes`."""
        self._deadline = deadline
        self._seconds = seconds = seconds + n_bytes / _SLOWEST_BYTES_PER_SECOND
        self._since = now = self._loop.time()
        self._is_large = n_bytes > _SMALL_BYTES
        if self._is_watched:
            self._first_read = self._parser.n_reads + 1
            self._seen = self._look() if self._is_large else (self._first_read, 0, 0)
        due = now + seconds
        if self._timer is None or due < self._goes_off_at:
            self._set(due)

    def end(self) -> None:
        """The call is over."""
        self._deadline = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, due: float) -> None:
        self.close()
        self._goes_off_at = due
        self._timer = self._loop.call_at(due, self._check)

    def _look(self) -> Moved | None:
        if not self._is_watched:
            return None
        n_reads = max(self._parser.n_reads, self._first_read)  # the first one waits for the first byte
        buffered, unsent = self._parser.n_unsent() if self._is_large else (0, 0)
        return n_reads, buffered, unsent

    def _check(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if (due := self._since + self._seconds) > self._loop.time():  # of another call, which began later
            self._set(due)
        elif (seen := self._look()) == self._seen:
            self._deadline.reschedule(self._loop.time())
        else:
            self._seen = seen
            self._since = self._loop.time()
            self._on_progress()
            self._set(self._since + self._seconds)
