"""A Redis inside this process, by fakeredis, whose clock is the virtual one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from redis.exceptions import ResponseError

from flowq.errors import UsageError
from flowq.testing.simulation.virtual_scripts import VirtualScript, microseconds, script_of, time_reply, with_clock
from flowq.testing.simulation.virtual_server import Now, Write

# fakeredis collects all garbage of Lua after each script, which takes longer than the script; Lua does it anyway.
_PREPARE = b"collectgarbage = function() end redis.compiled = {}"
_COMPILE = b"redis.compiled[ARGV[1]] = assert(loadstring(ARGV[2]))"
_RUN = b"return redis.compiled['%s']()"


class FakeServer:
    """A server that lives as long as this object. Runs flowq's own scripts, each compiled once."""

    address = "fakeredis"

    def __init__(self, now: Now) -> None:
        try:
            from fakeredis import FakeServer as Fake
        except ImportError:
            raise UsageError(
                "a harness without redis= needs fakeredis", hint="pip install 'flowq-streams[test]'"
            ) from None
        self._clock = now
        self._written_at: float | None = None  # while writes are repeated
        self._fake = Fake(version=(7, 4))
        self._fake.dbs[0] = _database(self._fake.lock, self.now)
        self._compiled: dict[bytes, bytes] = {}
        self._own = self._connection()
        self._own.ask((b"EVAL", _PREPARE, 0))

    def now(self) -> float:
        """Seconds since 1970, by the virtual clock."""
        return self._clock() if self._written_at is None else self._written_at

    def connect(self) -> FakeServerConnection:
        """A new connection."""
        return FakeServerConnection(self, self._connection())

    def clear(self) -> None:
        """Remove every key: no other program uses this server."""
        self._own.ask((b"FLUSHDB",))

    def restore(self, writes: Sequence[Write]) -> None:
        """Forget everything, and repeat these writes, each at its time."""
        self.clear()
        connection = self.connect()
        for write in writes:
            self._written_at = write.now
            connection.exchange(write.commands)
        self._written_at = None
        connection.close()

    def close(self) -> None:
        """End it: connections cannot be used any more."""
        self._own.close()

    def _connection(self) -> _Connection:
        from fakeredis import FakeRedisConnection

        connection: Any = FakeRedisConnection(server=self._fake, db=0, protocol=2)
        connection.connect()
        return _Connection(connection)

    def runnable(self, script: VirtualScript) -> bytes:
        """A text that runs the script, which has been compiled before."""
        text = self._compiled.get(script.digest)
        if text is None:
            reply = self._own.ask((b"EVAL", _COMPILE, 0, script.digest, script.text))
            if isinstance(reply, Exception):
                raise reply
            text = self._compiled[script.digest] = _RUN % script.digest
        return text


class FakeServerConnection:
    """One connection to the fake server."""

    def __init__(self, server: FakeServer, connection: _Connection) -> None:
        self._server = server
        self._connection = connection

    def exchange(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run commands one after the other."""
        return [self._run(command) for command in commands]

    def _run(self, command: Sequence[Any]) -> Any:
        if (script := script_of(command)) is not None:
            now = microseconds(self._server.now())
            return self._connection.ask((b"EVAL", self._server.runnable(with_clock(script)), *command[2:], now))
        if command[0] == b"TIME":
            return time_reply(self._server.now())
        return self._connection.ask(command)

    def close(self) -> None:
        self._connection.close()


class _Connection:
    """A connection of fakeredis."""

    def __init__(self, fake: Any) -> None:
        self._fake = fake

    def ask(self, command: Sequence[Any]) -> Any:
        # In small pieces: fakeredis copies all that it has received and not yet read, once for each argument.
        self._fake.send_packed_command(_packed(command), check_health=False)
        try:
            return self._fake.read_response(disable_decoding=True)
        except ResponseError as error:
            return error

    def close(self) -> None:
        self._fake.disconnect()


def _packed(command: Sequence[Any]) -> Iterator[bytes]:
    yield b"*%d\r\n" % len(command)
    for argument in command:
        word = argument if isinstance(argument, bytes) else str(argument).encode()
        yield b"$%d\r\n%b\r\n" % (len(word), word)


def _database(lock: Any, now: Now) -> Any:
    """A database of fakeredis in which keys expire by the virtual clock."""
    from fakeredis._core import Database

    class VirtualDatabase(Database):
        @property
        def time(self) -> float:
            return now()

        @time.setter
        def time(self, _: float) -> None:
            """fakeredis sets it to the real time at each command."""

    return VirtualDatabase(lock)
