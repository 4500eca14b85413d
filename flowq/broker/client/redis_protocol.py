"""One connection to Redis: requests out, replies in, one call after the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

import hiredis
import redis.exceptions as redis_errors
from redis.asyncio.connection import DefaultParser

from flowq.broker.client.progress import StallWatch

_INCOMPLETE = object()
# Packs a thousand arguments in a fifth of the time of redis-py's own code.
pack_command = cast("Callable[[tuple[Any, ...]], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]
error_of = cast("Callable[[str], Exception]", DefaultParser.parse_error)  # pyright: ignore[reportUnknownMemberType]


class Connection(Protocol):
    """What a link needs of a connection."""

    @property
    def is_lost(self) -> bool:
        """Whether it has been closed or broken, also while idle."""
        ...

    def watch(self, on_progress: Callable[[], None]) -> None:
        """Call this when a call past its deadline has made progress."""
        ...

    def ask(self, request: bytes, n_replies: int, *, timeout_seconds: float) -> Awaitable[list[Any]]:
        """Send packed commands. Returns their replies in order; those that are errors are returned as exceptions.

        `timeout_seconds` limits the time without progress. After a failure or a cancellation the connection has to be
        closed: the next reply would answer the wrong command.
        """
        ...

    async def close(self) -> None:
        """Close it at once, whatever state it is in."""
        ...


class RedisProtocol(asyncio.Protocol):
    """The connection over a socket, with TLS or without.

    No flow control of its own: a call sends one request and waits for its replies, so no more is ever buffered.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(
            protocolError=redis_errors.InvalidResponse, replyError=error_of, notEnoughData=_INCOMPLETE
        )
        self._replies: list[Any] = []
        self._n_missing = 0
        self._problem: Exception | None = None  # why the connection cannot be used any more

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's transports do not inherit from it
        self._watch = StallWatch(self._transport)

    def watch(self, on_progress: Callable[[], None]) -> None:
        self._watch.on_progress = on_progress

    @property
    def is_lost(self) -> bool:
        return self._problem is not None or self._transport.is_closing()

    @property
    def server(self) -> object:
        """The address of the server as the socket has it: the same for two connections to one server.

        None for a Unix socket: its server may have bound it by a relative name, which is that of other servers too.
        """
        address: object = self._transport.get_extra_info("peername")
        return None if isinstance(address, str | bytes) else address

    @property
    def descriptor(self) -> int | None:
        """That of its socket. None while it is being closed, because it may belong to another file by now."""
        return None if self._transport.is_closing() else self._transport.get_extra_info("socket").fileno()

    def ask(self, request: bytes, n_replies: int, *, timeout_seconds: float) -> asyncio.Future[list[Any]]:
        if self.is_lost:
            raise self._problem or _closed()
        self._transport.write(request)  # first: if it raises, nothing is left that waits or is watched
        self._n_missing = n_replies
        call = self._loop.create_future()
        self._watch.begin(call, timeout_seconds, len(request))
        return call

    def data_received(self, data: bytes) -> None:
        self._watch.n_reads += 1
        reader = self._reader
        try:  # whatever was raised here would be logged as an error of the event loop, and the call would wait
            reader.feed(data)
            while self._n_missing:
                if (reply := reader.gets()) is _INCOMPLETE:
                    return
                self._replies.append(reply)
                self._n_missing -= 1
            if reader.has_data():
                self._fail(_unasked(reader.gets()))
            elif (call := self._watch.end()) is not None:
                call.set_result(self._replies)
            self._replies = []  # they may be large, and the next call may come late
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def eof_received(self) -> None:
        self._fail(_closed())

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or _closed())
        self._watch.close()

    def _fail(self, problem: Exception) -> None:
        self._problem = self._problem or problem
        if (call := self._watch.end()) is not None:
            call.set_exception(self._problem)

    async def close(self) -> None:
        """Without waiting for the other end, which TLS would do, and without sending the rest of a request."""
        self._fail(_closed())
        self._watch.close()
        with contextlib.suppress(AttributeError):  # of a TLS transport that is closed, in Python 3.11.2 (Debian 12)
            self._transport.close()
            self._transport.abort()


def _closed() -> Exception:
    return ConnectionResetError("Redis has closed the connection")


def _unasked(reply: object) -> Exception:
    """A server that has too many clients says so before it is asked; anything else must not answer the next call."""
    if isinstance(reply, Exception):
        return reply
    return redis_errors.InvalidResponse("a reply that no command asked for")
