"""One connection to Redis: sends commands, returns replies, translates errors, never leaves half a reply unread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import redis.exceptions as redis_errors
from hiredis import pack_command  # pyright: ignore[reportUnknownVariableType]
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from flowq.broker.client.forks import known
from flowq.broker.client.progress import StallWatch, WatchedParser
from flowq.broker.client.redis_errors import PROTOCOL_ERROR, cut_off, is_denied, translate
from flowq.broker.client.redis_url import parse_redis_url
from flowq.broker.client.tls import check_tls_files
from flowq.errors import BrokerRefused, BrokerUnavailable, UsageError

Command = Sequence[Any]
Reading = Callable[[], Awaitable[Any]]

CONNECT_TIMEOUT_SECONDS = 3.0
_REPLICA_SECONDS = 1.0


class Dialer(Protocol):
    """Makes connections to the server that currently holds the slot of the pipeline."""

    @property
    def url(self) -> str:
        """What another process needs to reach the same server."""
        ...

    @property
    def address(self) -> str:
        """The same for people, without password."""
        ...

    @property
    def is_private(self) -> bool:
        """Whether no other process can reach this server, so that no lease is needed."""
        ...

    async def dial(self) -> Connection:
        """A new connection. Raises redis' and the socket's own errors, or BrokerUnavailable."""
        ...


class UrlDialer:
    """Connections to one server by its URL: redis://, rediss:// or unix://."""

    is_private = False

    def __init__(self, url: str) -> None:
        parsed = parse_redis_url(url)
        if parsed.topology != "single":
            raise UsageError(f"{parsed} names more than one server", hint="redis://host:6379/0")
        self.url = parsed.text
        self.address = str(parsed)
        self._settings = parsed.settings
        self._is_tls = parsed.is_tls
        self._where: Mapping[str, Any] = {"path": parsed.path}
        if parsed.hosts:
            self._where = dict(zip(("host", "port"), parsed.hosts[0], strict=True))
        if self._is_tls:
            check_tls_files(self._settings)

    async def dial(self) -> Connection:
        """A new connection to that server."""
        return await connected(new_connection(self._settings, tls=self._is_tls, **self._where))


def new_connection(
    settings: Mapping[str, Any], *, tls: bool = False, host: str = "", port: int = 0, path: str = ""
) -> Connection:
    """A connection to one server, not open yet."""
    # Retries are ours alone: a client that sends a script again by itself hides a lost reply, and one that waits ten
    # times its timeout hides a dead server.
    common: dict[str, Any] = {
        **settings,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "socket_timeout": None,  # every call has its own deadline
        "driver_info": None,  # CLIENT SETINFO, which a restricted user may not call
        "protocol": 2,
        "parser_class": WatchedParser,
    }
    if path:
        return UnixDomainSocketConnection(path=path, **common)  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
    return (SSLConnection if tls else Connection)(host=host, port=port, **common)


async def connected(connection: Connection) -> Connection:
    """Connect it, and close the socket on failure. redis-py leaves it open if cancelled during the handshake."""
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await discard(connection)
        raise
    return known(connection)


async def discard(connection: Connection) -> None:
    """Close a connection at once, whatever state it is in.

    redis-py closes gracefully: over TLS it waits for the other end, and after a half-written command it never returns.
    """
    writer = connection._writer  # pyright: ignore[reportPrivateUsage]
    with contextlib.suppress(Exception):
        await connection.disconnect(nowait=True)
    if isinstance(writer, asyncio.StreamWriter):
        with contextlib.suppress(AttributeError):  # of a TLS transport that is closed, in Python 3.11.2 (Debian 12)
            writer.transport.abort()


def is_lost(connection: Connection) -> bool:
    """Whether it has been closed or broken while idle."""
    reader, writer = connection._reader, connection._writer  # pyright: ignore[reportPrivateUsage]
    if not isinstance(reader, asyncio.StreamReader) or writer is None:  # a fake one
        return False
    return reader.at_eof() or reader.exception() is not None or writer.is_closing()


class Link:
    """One connection, opened on demand and discarded on the first error.

    Calls on one link run one after the other. `on_failure` and `on_open` are called when a connection breaks and when
    another is opened: it may lead to another server, which may have delivered the same messages to another worker.
    `renews`: a connection that was lost while idle is replaced by the next call. Otherwise that call fails, because
    what its caller knows only holds for the old connection.
    """

    def __init__(
        self,
        dialer: Dialer,
        *,
        on_open: Callable[[], None] = lambda: None,
        on_failure: Callable[[], None] = lambda: None,
        renews: bool = False,
    ) -> None:
        self._dialer = dialer
        self._on_open = on_open
        self._on_failure = on_failure
        self._renews = renews
        self._connection: Connection | None = None
        self._watch: StallWatch  # of the connection
        self._read: Reading
        self._turn = asyncio.Lock()
        self.progressed_at = 0.0  # when a call past its deadline last made progress

    def _note_progress(self) -> None:
        self.progressed_at = time.monotonic()

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    async def call(self, *command: Any, timeout_seconds: float) -> Any:
        """Send one command and return its reply. Raises BrokerUnavailable, BrokerRefused, or redis' ResponseError."""
        reply = (await self.call_all([command], timeout_seconds=timeout_seconds))[0]
        if isinstance(reply, Exception):
            raise translate(reply, self._dialer.address)
        return reply

    async def call_replicated(self, *command: Any, timeout_seconds: float) -> Any:
        """Like `call`, for a command that writes: raise BrokerUnavailable unless a replica has it within a second.

        Both are sent together: WAIT only covers writes of its own connection.
        """
        waiting = b"WAIT", 1, round(_REPLICA_SECONDS * 1000)
        reply, replicas = await self.call_all([command, waiting], timeout_seconds=timeout_seconds)
        if isinstance(reply, Exception):
            raise translate(reply, self._dialer.address)
        if not isinstance(replicas, Exception) and replicas > 0:
            return reply
        await self._drop()  # this server may be cut off, or no longer the primary
        problem = translate(replicas, self._dialer.address) if isinstance(replicas, Exception) else None
        if isinstance(problem, BrokerRefused):
            raise problem
        raise BrokerUnavailable(
            f"no replica of Redis at {self._dialer.address} has confirmed within {_REPLICA_SECONDS:g} s",
            hint='check that one is connected: flowq doctor; or use durability="local"',
        )

    async def call_all(self, commands: Sequence[Command], *, timeout_seconds: float) -> list[Any]:
        """Send several commands at once; an error reply is an exception in the list.

        Raises BrokerUnavailable, and BrokerRefused if this user may not call one of them, so that a caller which treats
        errors as "nothing there" does not treat that as one. `timeout_seconds` limits the time without progress, not
        the time that a large reply over a slow link takes.
        """
        replies = await self.replies_to(commands, timeout_seconds=timeout_seconds)
        for reply in replies:
            if isinstance(reply, Exception) and (is_denied(reply) or str(reply).startswith("BUSY ")):
                raise translate(reply, self._dialer.address)
        return replies

    async def replies_to(self, commands: Sequence[Command], *, timeout_seconds: float) -> list[Any]:
        """Like `call_all`, but all errors are in the list. Raises BrokerUnavailable."""
        # hiredis packs a thousand arguments in a fifth of the time of redis-py's own code
        packed: list[bytes] = [pack_command(tuple(command)) for command in commands]
        n_bytes = sum(map(len, packed))
        is_under_way = False
        async with self._turn:
            try:
                if self._renews and self._connection is not None and is_lost(self._connection):
                    await self._drop()
                connection = self._connection or await self._open(timeout_seconds)
                is_under_way = True
                watch, read = self._watch, self._read
                async with asyncio.timeout(None) as deadline:
                    watch.begin(deadline, timeout_seconds, n_bytes)
                    try:
                        await connection.send_packed_command(packed, check_health=False)
                        return [await _read_reply(read) for _ in commands]
                    finally:
                        watch.end()
            except BaseException as error:
                # After a cancellation or failure, the next reply on this connection would answer the wrong command.
                await self._drop()
                # Transports raise anything: RuntimeError for a write after a reset, UnicodeError for a host name,
                # ValueError, EOFError.
                if isinstance(error, Exception):
                    problem = translate(error, self._dialer.address)
                    if is_under_way:
                        problem = cut_off(error, problem, self._dialer.address, n_bytes=n_bytes)
                    raise problem from error
                raise

    async def _open(self, timeout_seconds: float) -> Connection:
        async with asyncio.timeout(timeout_seconds):
            self._connection = connection = await self._dialer.dial()
        self._watch, self._read = StallWatch(connection, self._note_progress), _reading(connection)
        self._on_open()
        return connection

    async def _drop(self) -> None:
        self._on_failure()
        await self.close()

    async def misled(self, detail: str) -> BrokerUnavailable:
        """Drop a connection that sent an invalid reply; returns the error to raise."""
        await self._drop()
        return translate(redis_errors.InvalidResponse(detail), self._dialer.address)  # type: ignore[return-value]

    async def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._watch.close()
            await discard(connection)


_WRONG_SERVER = (
    redis_errors.ReadOnlyError,
    redis_errors.MovedError,
    redis_errors.AskError,
    redis_errors.TryAgainError,
    redis_errors.ClusterDownError,
    redis_errors.MasterDownError,
)
# Old servers put these in the middle of an error of a script. A primary without its replicas may have been replaced.
_WRONG_SERVER_WORDS = ("READONLY", "NOREPLICAS")


def _reading(connection: Connection) -> Reading:
    """How to read a reply. redis-py's own method does the same and costs a tenth of a call more."""
    parser: Any = connection._parser  # pyright: ignore[reportPrivateUsage]
    is_of_redis_py = isinstance(connection, AbstractConnection)  # pyright: ignore[reportUnnecessaryIsInstance]
    if is_of_redis_py and isinstance(parser, WatchedParser):
        return parser.read_response
    return partial(connection.read_response, disconnect_on_error=False)  # pyright: ignore[reportUnknownVariableType]


async def _read_reply(read: Reading) -> Any:
    try:
        reply = await read()
    except redis_errors.ResponseError as error:
        reply = error
    if isinstance(reply, redis_errors.ResponseError):
        if isinstance(reply, _WRONG_SERVER):
            raise reply  # it was demoted, or the slot has moved: this is the wrong server
        if any(word in str(reply) for word in (*_WRONG_SERVER_WORDS, PROTOCOL_ERROR)):
            raise reply  # after a protocol error, Redis closes the connection
    return reply
