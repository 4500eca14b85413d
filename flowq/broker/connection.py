"""One connection to Redis: commands in, replies out, every failure translated and never half a reply left behind."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import redis.exceptions as redis_errors
from hiredis import pack_command  # pyright: ignore[reportUnknownVariableType]
from redis.asyncio.connection import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from flowq.errors import BrokerLoading, BrokerRefused, BrokerUnavailable, UsageError

Command = Sequence[Any]

_CONNECT_TIMEOUT_SECONDS = 3.0
_REPLICA_SECONDS = 1.0


class Dialer(Protocol):
    """Makes connections to whichever server holds the pipeline's slot at the moment."""

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
        """Whether no other process can reach this server: then there is nobody to hold a lease against."""
        ...

    async def dial(self) -> Connection:
        """A new connection. Raises redis' and the socket's own errors, or BrokerUnavailable."""
        ...


class UrlDialer:
    """Connections to one server by its URL: redis://, rediss:// or unix://."""

    is_private = False

    def __init__(self, url: str) -> None:
        self.url = url
        self.address = redact(url)
        try:
            pool = ConnectionPool.from_url(url)  # pyright: ignore[reportUnknownMemberType]
        except ValueError as error:
            raise UsageError(
                f"{self.address} is not a Redis URL",
                hint="redis://host:6379/0, rediss:// for TLS, or unix:///path/to/socket",
                detail=str(error),
            ) from None
        self._make: Any = pool.connection_class
        # Retries are ours alone: a client that sends a script again by itself hides a lost reply, and one that
        # waits ten times its timeout hides a dead server.
        self._settings: dict[str, Any] = {
            **pool.connection_kwargs,
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
            "socket_timeout": None,  # every call has its own deadline
            "health_check_interval": 0,
            "decode_responses": False,
            "protocol": 2,
        }

    async def dial(self) -> Connection:
        """A new connection to that server."""
        return await connected(self._make(**self._settings))


async def connected(connection: Connection) -> Connection:
    """Connect it. Cancelled in the middle of the greeting, redis-py would leave the socket open."""
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


class Link:
    """One connection that is opened on demand and thrown away on the first sign of trouble.

    Calls on one link run one after the other. Who has read something wants to know when a connection breaks, and when
    another is opened: it may lead to another server, for which the same may be somebody else's.
    """

    def __init__(
        self,
        dialer: Dialer,
        *,
        on_open: Callable[[], None] = lambda: None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._dialer = dialer
        self._on_open = on_open
        self._on_failure = on_failure
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

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

        Both go in one breath: WAIT only knows of what its own connection wrote.
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
            hint='see whether one is connected: flowq doctor; or do without: durability="local"',
        )

    async def call_all(self, commands: Sequence[Command], *, timeout_seconds: float) -> list[Any]:
        """Send several commands in one go; a reply that is an error stands in the list as an exception."""
        async with self._turn:
            try:
                async with asyncio.timeout(timeout_seconds):
                    connection = self._connection or await self._open()
                    # hiredis packs a thousand arguments in a fifth of the time of redis-py's own code
                    packed: list[bytes] = [pack_command(tuple(command)) for command in commands]
                    await connection.send_packed_command(packed, check_health=False)
                    return [await _read_reply(connection) for _ in commands]
            except BaseException as error:
                # Cancelled or failed in between, the next reply on this connection would answer the wrong command.
                await self._drop()
                if isinstance(error, (redis_errors.RedisError, OSError, TimeoutError)):
                    raise translate(error, self._dialer.address) from error
                raise

    async def _open(self) -> Connection:
        self._connection = connection = await self._dialer.dial()
        self._on_open()
        return connection

    async def _drop(self) -> None:
        self._on_failure()
        await self.close()

    async def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


_WRONG_SERVER = (
    redis_errors.ReadOnlyError,
    redis_errors.MovedError,
    redis_errors.AskError,
    redis_errors.TryAgainError,
    redis_errors.ClusterDownError,
    redis_errors.MasterDownError,
)
# In the middle of a sentence where an old server says it of a script. Who has lost its replicas may have been replaced.
_WRONG_SERVER_WORDS = ("READONLY", "NOREPLICAS")


async def _read_reply(connection: Connection) -> Any:
    try:
        return await connection.read_response(disconnect_on_error=False)  # pyright: ignore[reportUnknownVariableType]
    except _WRONG_SERVER:
        raise  # it was demoted, or the slot has moved: the connection leads to the wrong place
    except redis_errors.ResponseError as error:
        if any(word in str(error) for word in _WRONG_SERVER_WORDS):
            raise
        return error


_REFUSALS = (
    redis_errors.AuthenticationError,
    redis_errors.AuthorizationError,
    redis_errors.NoPermissionError,
    redis_errors.InvalidResponse,
)
_ANSWERS_THAT_CALLERS_EXPECT = ("NOGROUP", "UNBLOCKED", "BUSYGROUP")


def translate(error: BaseException, address: str) -> Exception:
    """What redis-py or the socket raised, in flowq's words; replies that callers handle by their text pass."""
    if isinstance(error.__cause__, redis_errors.RedisError):
        error = error.__cause__  # connecting wraps whatever Redis answered to the greeting
    text = str(error) or type(error).__name__
    if isinstance(error, _REFUSALS):
        return BrokerRefused(
            f"Redis at {address} refused the connection or the command",
            hint="check user, password and ACL of the Redis URL",
            detail=text,
        )
    if isinstance(error, redis_errors.ResponseError):
        return _translate_answer(error, text, address)
    if isinstance(error, redis_errors.BusyLoadingError):
        return BrokerLoading(
            f"Redis at {address} is still reading its data", hint="wait until it has, and try again", detail=text
        )
    if isinstance(error, TimeoutError | redis_errors.TimeoutError):
        text = "no answer in time"
    return BrokerUnavailable(
        f"cannot reach Redis at {address}",
        hint="start one: redis-server --appendonly yes, or leave out the URL and flowq starts its own",
        detail=text,
    )


def _translate_answer(error: redis_errors.ResponseError, text: str, address: str) -> Exception:
    if isinstance(error, redis_errors.NoScriptError) or text.startswith(_ANSWERS_THAT_CALLERS_EXPECT):
        return error
    if text.startswith(("WRONGTYPE", "FLOWQ_WRONGTYPE")):
        return BrokerRefused(
            "a key of this pipeline holds something else",
            hint="remove that key, or use another namespace",
            detail=text,
        )
    if text.startswith(("DB index", "unknown command")):
        return BrokerRefused(
            f"Redis at {address} cannot serve flowq",
            hint="check the database number of the URL; flowq needs Redis 6.2 or newer",
            detail=text,
        )
    # Out of memory, not enough replicas, a disk that is full, a script that runs for too long: all of them pass, and
    # redis-py has no class for most.
    return BrokerUnavailable(
        f"Redis at {address} does not do its work at the moment",
        hint="see what it says: it may need memory, disk space or its replicas",
        detail=text,
    )


_SECRET_PARAMETER = re.compile(r"(?i)(password=)[^&]*")


def redact(url: str) -> str:
    """A Redis URL without its password, also when it is not a proper URL.

    >>> redact("redis://user:secret@example.org:6379/0")
    'redis://user:***@example.org:6379/0'
    """
    try:
        parts = urlsplit(url)
        parts = parts._replace(query=_SECRET_PARAMETER.sub(r"\1***", parts.query))
        credentials, at, host = parts.netloc.rpartition("@")
        if not at:
            return urlunsplit(parts) if "@" not in url else "redis://***"
        user = credentials.partition(":")[0]
        return urlunsplit(parts._replace(netloc=f"{user}:***@{host}"))
    except ValueError:
        return "redis://***"
