"""Deadlines for calls over slow links: what counts is whether bytes still move, not when the last of them arrives."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import termios
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from redis.asyncio.connection import Connection, DefaultParser

if TYPE_CHECKING:
    from redis._parsers.hiredis import _AsyncHiredisParser as Parser  # pyright: ignore[reportPrivateUsage]
else:
    Parser = DefaultParser

_SLOWEST_BYTES_PER_SECOND = 250_000
"""A request may lie in buffers between here and Redis, where its progress cannot be seen."""
_SMALL_BYTES = 65_536
"""A smaller request is on its way at once, and what the kernel still holds of it only means that nobody answers."""


class WatchedParser(Parser):
    """Reads replies like its base class, and knows whether any have moved on."""

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size=socket_read_size)
        self._n_reads = 0
        self._transport: asyncio.WriteTransport | None = None

    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)  # type: ignore[no-untyped-call]
        self._transport = connection._writer.transport

    async def read_from_socket(self) -> Literal[True]:
        await super().read_from_socket()  # type: ignore[no-untyped-call]
        self._n_reads += 1
        return True

    def n_moved(self, *, is_large: bool) -> tuple[int, int, int]:
        """Changes while bytes move: reads from the socket; of a large request also what is not sent yet."""
        if not is_large or self._transport is None:
            return self._n_reads, 0, 0
        return self._n_reads, self._transport.get_write_buffer_size(), _unsent_bytes(self._transport)


def _unsent_bytes(transport: asyncio.WriteTransport) -> int:
    """What the kernel holds and the other side has not acknowledged."""
    n_bytes = array.array("i", [0])
    with contextlib.suppress(OSError, ValueError, AttributeError):  # not every socket tells
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, n_bytes)
    return n_bytes[0]


class StallWatch:
    """Has a deadline expire when no byte has moved on a connection for `seconds`, in either direction.

    A connection that cannot be watched gets `seconds` for the whole call. Each call costs one timer, like
    `asyncio.timeout`: progress is only looked at when the timer goes off.
    """

    __slots__ = ("_deadline", "_is_large", "_loop", "_on_progress", "_parser", "_seconds", "_seen", "_timer")

    def __init__(
        self,
        deadline: asyncio.Timeout,
        connection: Connection,
        seconds: float,
        *,
        n_bytes: int,
        on_progress: Callable[[], None],
    ) -> None:
        self._deadline = deadline
        self._on_progress = on_progress
        self._parser: Any = connection._parser  # pyright: ignore[reportPrivateUsage]
        self._seconds = seconds + n_bytes / _SLOWEST_BYTES_PER_SECOND
        self._is_large = n_bytes > _SMALL_BYTES
        self._loop = asyncio.get_running_loop()
        self._seen = self._look()
        self._timer = self._loop.call_later(self._seconds, self._check)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def _look(self) -> tuple[int, int, int] | None:
        return self._parser.n_moved(is_large=self._is_large) if isinstance(self._parser, WatchedParser) else None

    def _check(self) -> None:
        seen = self._look()
        if seen == self._seen:
            self._deadline.reschedule(self._loop.time())
        else:
            self._seen = seen
            self._on_progress()
            self._timer = self._loop.call_later(self._seconds, self._check)
