"""One server of a simulation: what is wrong with it now, and what it says of the replica that may take its place."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from flowq.broker.client.redis_protocol import error_of
from flowq.testing.simulation.calls import RedisCall
from flowq.testing.simulation.real_timers import Timers
from flowq.testing.simulation.virtual_server import Server
from flowq.testing.simulation.write_log import Answered, WriteLog

_ERRORS = {
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY": "READONLY You can't write against a read only replica.",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
}
_STORE_MESSAGES = ("publish", "apply")


class Node:
    """A server with one replica. `n_failovers`: how often the replica has taken its place.

    `random`: None for a server whose replica never lags, which is faster to simulate.
    """

    def __init__(self, loop: Timers, server: Server, number: int, random: Random | None) -> None:
        self.server = server
        self.n_failovers = 0
        self._loop = loop
        self._number = number
        self._connection = server.connect()
        self._log = None if random is None else WriteLog(random)
        self._stalled_until = self._refused_until = 0.0
        self._refusal = ""

    def exchange(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run commands that no fault strikes, and that are not remembered."""
        return self._connection.exchange(commands)

    def run(
        self, call: RedisCall, commands: Sequence[Sequence[Any]], *, may_be_refused: bool
    ) -> tuple[list[Any], bool]:
        """Run commands. Returns their replies, and whether they have run."""
        if may_be_refused and self._refused_until and (error := self._refused(call)):
            return [error] * len(commands), False
        replies = self._connection.exchange(commands)
        if self._log is not None:
            self._log.add(self.server.now(), call, commands, replies)
        return replies, True

    # What is wrong with it

    def stall(self, seconds: float) -> None:
        """It answers nothing for that time."""
        self._stalled_until = max(self._stalled_until, self._loop.time() + seconds)
        self._loop.stop_leaps_in(seconds)

    @property
    def stall_seconds(self) -> float:
        """For how long it still answers nothing."""
        return self._stalled_until - self._loop.time()

    def refuse(self, error: str, seconds: float) -> None:
        """It answers calls with an error for that time."""
        self._refusal, self._refused_until = error, self._loop.time() + seconds
        self._loop.stop_leaps_in(seconds)

    def _refused(self, call: RedisCall) -> Exception | None:
        if self._loop.time() >= self._refused_until:
            self._refused_until = 0.0
            return None
        if self._refusal == "OOM" and call.name not in _STORE_MESSAGES:
            return None  # flowq settles also when memory is full: it makes room
        return error_of(_ERRORS[self._refusal])

    def fail_over(self, forget: int) -> Sequence[Answered]:
        """Its replica takes its place, which lacks the last calls that moved messages. Returns what is forgotten."""
        assert self._log is not None
        self.n_failovers += 1
        forgotten = self._log.forget(forget)
        self.server.restore(self._log.writes)
        return forgotten

    # Its replica

    @property
    def position(self) -> int:
        """How many calls have written so far."""
        return 0 if self._log is None else len(self._log)

    def seconds_behind(self) -> float:
        """How long it takes until the replica has what is written by now."""
        return 0.0 if self._log is None else self._log.seconds_behind(self.server.now())

    def confirm(self, position: int) -> None:
        """The replica has said that it has everything up to here."""
        if self._log is not None:
            self._log.confirm(position)

    def info(self) -> bytes:
        """What it answers to INFO, of its replication and its disk. The replica is somewhere behind."""
        if self._log is not None:
            self._log.look_at_replica(self.server.now())
        confirmed = 0 if self._log is None else self._log.confirmed
        lines = (
            "role:master",
            "connected_slaves:1",
            f"slave0:ip=replica,port=6379,state=online,offset={confirmed},lag=0",
            f"master_replid:{self._number}-{self.n_failovers}",
            f"master_repl_offset:{self.position}",
            "aof_enabled:1",
        )
        return "".join(f"{line}\r\n" for line in lines).encode()
