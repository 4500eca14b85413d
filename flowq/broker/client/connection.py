"""A link to Redis: opens its connection on demand, sends commands, translates errors, leaves no half reply unread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import redis.exceptions as redis_errors

from flowq.broker.client.handshake import connected
from flowq.broker.client.redis_errors import PROTOCOL_ERROR, cut_off, is_denied, translate
from flowq.broker.client.redis_protocol import Connection, RedisProtocol, pack_command
from flowq.broker.client.redis_url import parse_redis_url
from flowq.broker.client.tls import check_tls_files
from flowq.errors import BrokerRefused, BrokerUnavailable, UsageError
from flowq.world import REAL, World

Command = Sequence[Any]

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

    async def dial(self) -> RedisProtocol:
        """A new connection to that server."""
        return await connected(self._settings, tls=self._is_tls, **self._where)


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
        world: World = REAL,
        *,
        on_open: Callable[[], None] = lambda: None,
        on_failure: Callable[[], None] = lambda: None,
        renews: bool = False,
    ) -> None:
        self._dialer = dialer
        self._now = world.monotonic
        self._on_open = on_open
        self._on_failure = on_failure
        self._renews = renews
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        self.progressed_at = 0.0  # when a call past its deadline last made progress
        self.n_opened = 0  # connections so far

    def _note_progress(self) -> None:
        self.progressed_at = self._now()

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    async def call(self, *command: Any, timeout_seconds: float) -> Any:
        """Send one command and return its reply. Raises BrokerUnavailable, BrokerRefused, or redis' ResponseError."""
        (reply,) = await self._exchange(pack_command(command), 1, timeout_seconds)
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

    async def answers(self, commands: Sequence[Command], *, timeout_seconds: float) -> list[Any]:
        """Like `call_all`, for commands of which none may fail: an error reply is raised."""
        replies = await self.call_all(commands, timeout_seconds=timeout_seconds)
        for reply in replies:
            if isinstance(reply, Exception):
                raise translate(reply, self._dialer.address)
        return replies

    async def replies_to(self, commands: Sequence[Command], *, timeout_seconds: float) -> list[Any]:
        """Like `call_all`, but all errors are in the list. Raises BrokerUnavailable."""
        if not commands:  # no reply would come
            return []
        packed = [pack_command(tuple(command)) for command in commands]
        return await self._exchange(b"".join(packed), len(packed), timeout_seconds)

    async def replies_to_packed(self, request: bytes, n_replies: int, *, timeout_seconds: float) -> list[Any]:
        """Like `replies_to`, for commands that are packed already."""
        return await self._exchange(request, n_replies, timeout_seconds)

    async def _exchange(self, request: bytes, n_replies: int, timeout_seconds: float) -> list[Any]:
        is_under_way = False
        await self._turn.acquire()
        try:
            if self._renews and self._connection is not None and self._connection.is_lost:
                await self._drop()
            connection = self._connection or await self._open(timeout_seconds)
            is_under_way = not connection.is_lost  # else its loss has nothing to do with this request
            replies = await connection.ask(request, n_replies, timeout_seconds=timeout_seconds)
            for reply in replies:
                if isinstance(reply, Exception):
                    _check(reply)
        except BaseException as error:
            # After a cancellation or failure, the next reply on this connection would answer the wrong command.
            await self._drop()
            # Transports raise anything: RuntimeError for a write after a reset, UnicodeError for a host name,
            # ValueError, EOFError.
            if isinstance(error, Exception):
                problem = translate(error, self._dialer.address)
                if is_under_way:
                    problem = cut_off(error, problem, self._dialer.address, n_bytes=len(request))
                raise problem from error
            raise
        else:
            return replies
        finally:
            self._turn.release()

    async def _open(self, timeout_seconds: float) -> Connection:
        async with asyncio.timeout(timeout_seconds):
            self._connection = connection = await self._dialer.dial()
        self.n_opened += 1
        connection.watch(self._note_progress)
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
            await connection.close()


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


def _check(reply: Exception) -> None:
    """Raise an error reply after which this connection cannot be used."""
    if not isinstance(reply, redis_errors.ResponseError):
        raise reply  # no login, still loading, too many clients
    if isinstance(reply, _WRONG_SERVER):
        raise reply  # it was demoted, or the slot has moved: this is the wrong server
    if any(word in str(reply) for word in (*_WRONG_SERVER_WORDS, PROTOCOL_ERROR)):
        raise reply  # after a protocol error, Redis closes the connection
