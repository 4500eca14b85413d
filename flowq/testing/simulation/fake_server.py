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
        self._clock = now
        self._written_at: float | None = None  # while writes are repeated
        self._is_closed = False
        try:
            self._engine = _idle.pop()  # in one step: threads may open servers at once
        except IndexError:
            self._engine = _Engine()
        self._engine.database.now = self.now

    def now(self) -> float:
        """Seconds since 1970, by the virtual clock."""
        return self._clock() if self._written_at is None else self._written_at

    def connect(self) -> FakeServerConnection:
        """A new connection."""
        return FakeServerConnection(self._engine, self.now)

    def clear(self) -> None:
        """Remove every key: no other program uses this server."""
        self._engine.own.ask((b"FLUSHDB",))

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
        """End it: its connections must not be used any more."""
        if not self._is_closed:
            self.clear()
            self._is_closed = True
            _idle.append(self._engine)


class FakeServerConnection:
    """One connection to the fake server."""

    def __init__(self, engine: _Engine, now: Now) -> None:
        self._engine = engine
        self._now = now
        self._connection = engine.connect()

    def exchange(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run commands one after the other."""
        return [self._run(command) for command in commands]

    def _run(self, command: Sequence[Any]) -> Any:
        if (script := script_of(command)) is not None:
            text = self._engine.text_that_runs(with_clock(script))
            return self._connection.ask((b"EVAL", text, *command[2:], microseconds(self._now())))
        if command[0] == b"TIME":
            return time_reply(self._now())
        return self._connection.ask(command)

    def close(self) -> None:
        self._connection.close()


class _Engine:
    """The fakeredis behind a server. Used again by the next one, since it has compiled the scripts."""

    def __init__(self) -> None:
        try:
            from fakeredis import FakeRedisConnection
            from fakeredis import FakeServer as Fake
        except ImportError:
            raise UsageError(
                "a harness without redis= needs fakeredis", hint="pip install 'flowq-streams[test]'"
            ) from None
        self._make: Any = FakeRedisConnection
        self._fake = Fake(version=(7, 4))
        self._fake.dbs[0] = self.database = _new_database(self._fake.lock)
        self._texts: dict[bytes, bytes] = {}  # of scripts that are compiled, by their digests
        self.own = self.connect()
        self.own.ask((b"EVAL", _PREPARE, 0))

    def connect(self) -> _Connection:
        """A new connection."""
        connection = self._make(server=self._fake, db=0, protocol=2)
        connection.connect()
        return _Connection(connection)

    def text_that_runs(self, script: VirtualScript) -> bytes:
        """A short text that calls the compiled script."""
        text = self._texts.get(script.digest)
        if text is None:
            reply = self.own.ask((b"EVAL", _COMPILE, 0, script.digest, script.text))
            if isinstance(reply, Exception):
                raise reply
            text = self._texts[script.digest] = _RUN % script.digest
        return text


_idle: list[_Engine] = []


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


def _new_database(lock: Any) -> Any:
    """A database of fakeredis in which keys expire by the clock `now`."""
    from fakeredis._core import Database

    class VirtualDatabase(Database):
        now: Now = staticmethod(lambda: 0.0)

        @property
        def time(self) -> float:
            return self.now()

        @time.setter
        def time(self, _: float) -> None:
            """fakeredis sets it to the real time at each command."""

    return VirtualDatabase(lock)
