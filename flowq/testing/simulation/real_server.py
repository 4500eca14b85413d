"""A real Redis as the server of a simulation: ids, TIME and expiry follow the virtual clock, in one namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
import redis.exceptions as redis_errors

from flowq.broker.client.redis_protocol import pack_command
from flowq.broker.client.redis_url import RedisUrl, parse_redis_url
from flowq.errors import BrokerUnavailable, UsageError
from flowq.testing.simulation.virtual_scripts import (
    ONE_COMMAND,
    depends_on_time,
    microseconds,
    script_of,
    time_reply,
    with_expiry,
)
from flowq.testing.simulation.virtual_server import Now, Write

__tracebackhide__ = True  # pytest shows the line of the test

_PER_SCAN = 1000


class RealServer:
    """One namespace on the server of a URL. Nothing outside of it is read or changed.

    Keys expire by the virtual clock only: a script of flowq removes what has expired before it begins.
    """

    def __init__(self, url: str, now: Now, *, namespace: str) -> None:
        self._url = parse_redis_url(url)
        if self._url.topology != "single":
            raise UsageError(f"{self._url} names more than one server", hint="redis://host:6379/0")
        self.address = str(self._url)
        self._clock = now
        self._written_at: float | None = None  # while writes are repeated
        self._namespace = namespace
        self.expiry = f"{namespace}:virtual-expiry".encode()
        self.loaded: set[bytes] = set()  # digests of scripts
        self._open: list[RealServerConnection] = []
        self._own = self.connect()

    def now(self) -> float:
        """Seconds since 1970, by the virtual clock."""
        return self._clock() if self._written_at is None else self._written_at

    def connect(self) -> RealServerConnection:
        """A new connection. Raises BrokerUnavailable."""
        connection = RealServerConnection(self, self._url)
        self._open.append(connection)
        return connection

    def clear(self) -> None:
        """Remove every key of the namespace."""
        cursor: Any = b"0"
        while True:
            ((cursor, keys),) = self._own.ask(
                [(b"SCAN", cursor, b"MATCH", f"{self._namespace}:*", b"COUNT", _PER_SCAN)]
            )
            if keys:
                self._own.ask([(b"DEL", *keys)])
            if cursor == b"0":
                break

    def restore(self, writes: Sequence[Write]) -> None:
        """Forget everything in the namespace, and repeat these writes, each at its time."""
        self.clear()
        for write in writes:
            self._written_at = write.now
            self._own.exchange(write.commands)
        self._written_at = None

    def close(self) -> None:
        """Remove the namespace, and close all connections."""
        self.clear()
        for connection in self._open:
            connection.close()


class RealServerConnection:
    """One connection, whose calls block."""

    def __init__(self, server: RealServer, url: RedisUrl) -> None:
        self._server = server
        self._connection: Any = _connection(url)
        try:
            self._connection.connect()
        except (redis_errors.RedisError, OSError) as error:
            raise BrokerUnavailable(
                f"cannot reach Redis at {server.address}", hint="start one, or leave redis= out", detail=str(error)
            ) from None

    def exchange(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run commands in virtual time, one after the other."""
        now = self._server.now()
        sent: list[Sequence[Any]] = []
        for script in filter(None, map(script_of, commands)):
            virtual = with_expiry(script)
            if virtual.digest not in self._server.loaded:
                self._server.loaded.add(virtual.digest)
                sent.append((b"SCRIPT", b"LOAD", virtual.text))
        if not any(map(script_of, commands)):  # which would do the same first
            sent.append(self._in_virtual_time((b"EVAL", ONE_COMMAND.text, 0), now))
        n_before = len(sent)
        sent += [self._virtual(command, now) for command in commands]
        replies = self.ask(sent)[n_before:]
        return [
            time_reply(now) if command[0] == b"TIME" else reply
            for command, reply in zip(commands, replies, strict=True)
        ]

    def _virtual(self, command: Sequence[Any], now: float) -> Sequence[Any]:
        if (script := script_of(command)) is not None:
            virtual = with_expiry(script)
            known_by = virtual.digest if command[0] == b"EVALSHA" else virtual.text
            return self._in_virtual_time((command[0], known_by, *command[2:]), now)
        if depends_on_time(command):
            return self._in_virtual_time((b"EVAL", ONE_COMMAND.text, 0, *command), now)
        return command

    def _in_virtual_time(self, call: Sequence[Any], now: float) -> Sequence[Any]:
        return (*call, self._server.expiry, microseconds(now))

    def ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run commands as they are."""
        if not commands:
            return []
        packed = [b"".join([pack_command(tuple(command)) for command in commands])]
        try:
            self._connection.send_packed_command(packed, check_health=False)
            return [self._reply() for _ in commands]
        except (redis_errors.ConnectionError, OSError) as error:
            raise BrokerUnavailable(
                f"Redis at {self._server.address} has closed the connection", hint="see whether it runs",
                detail=str(error),
            ) from error  # fmt: skip

    def _reply(self) -> Any:
        try:
            return self._connection.read_response(disable_decoding=True)
        except redis_errors.ResponseError as error:
            return error

    def close(self) -> None:
        self._connection.disconnect()


def _connection(url: RedisUrl) -> Any:
    settings = {**url.settings, "protocol": 2}
    if url.path:
        over_socket: Any = redis.UnixDomainSocketConnection
        return over_socket(path=url.path, **settings)
    host, port = url.hosts[0]
    over_network: Any = redis.SSLConnection if url.is_tls else redis.Connection
    return over_network(host=host, port=port, **settings)
