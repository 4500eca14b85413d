"""What the workers of a simulation share: the server, the delays on the way to it, and who waits for what."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Protocol

from flowq.broker.client.redis_protocol import error_of
from flowq.testing.simulation.calls import Messages, RedisCall
from flowq.testing.simulation.injector import Injector
from flowq.testing.simulation.real_timers import Timers
from flowq.testing.simulation.trace import Event, Trace
from flowq.testing.simulation.virtual_server import Server
from flowq.testing.simulation.write_log import WriteLog

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.0001, 0.001
_SHORTEST_DETOUR_SECONDS, _LONGEST_DETOUR_SECONDS = 0.005, 0.05
_LOOKS, _BETWEEN_LOOKS = 5, 0.45  # others look at least twice, each time after a good third of a lease
_ERRORS = {
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY": "READONLY You can't write against a read only replica.",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
}


class Worker(Protocol):
    """What the network needs to know of a worker."""

    is_dead: bool
    leases: dict[bytes, int]  # keys of the leases that it has renewed, and for how many milliseconds

    def disconnect(self) -> None:
        """Cut all its connections."""
        ...


class Network:
    """Everything between the workers and the server.

    Each call takes a short virtual time that the seed decides, and with it the order in which calls of different
    workers arrive. The server runs one call after the other, in this thread.
    """

    def __init__(
        self,
        loop: Timers,
        server: Server,
        *,
        seed: int = 0,
        injector: Injector | None = None,
    ) -> None:
        self.loop = loop
        self.server = server
        self.trace = Trace()
        self.injector = injector or Injector()
        self.messages = Messages()
        self._random = Random(f"network {seed}")
        self._connection = server.connect()
        self._log = WriteLog() if self.injector.may_fail_over else None
        self._readers: defaultdict[bytes, dict[asyncio.Future[None], None]] = defaultdict(dict)
        self._blocked: dict[int, asyncio.Future[None]] = {}
        self._n_clients = 0
        self._workers: list[Worker] = []
        self._stalled_until = self._refused_until = 0.0
        self._refusal = ""
        self._leapt_to = -math.inf
        self.on_answer: list[Callable[[RedisCall, Sequence[Sequence[Any]], Sequence[Any]], None]] = []
        """Called with each call that the server has answered, its commands and their replies."""
        loop.on_leap(self._keep_leases)

    def join(self, worker: Worker) -> None:
        """Another worker is in the network."""
        self._workers.append(worker)

    def new_client_id(self) -> int:
        self._n_clients += 1
        return self._n_clients

    def note(self, worker: str, what: str, stage: str = "", messages: tuple[str, ...] = (), detail: str = "") -> None:
        """Add an event to the trace."""
        self.trace.add(Event(self.loop.time(), worker, what, stage, messages, detail))

    # Calls

    def delay_seconds(self, call: RedisCall) -> float:
        """How long a request takes to the server.

        After a leap, renewals arrive first: without it, they would have arrived before others look at the leases.
        """
        is_after_leap = call.name != "renew" and self.loop.time() - self._leapt_to <= _LONGEST_SECONDS
        return self._random.uniform(_SHORTEST_SECONDS, _LONGEST_SECONDS) + is_after_leap * _LONGEST_SECONDS

    def detour_seconds(self) -> float:
        """By how much a request is late that others overtake."""
        return self._random.uniform(_SHORTEST_DETOUR_SECONDS, _LONGEST_DETOUR_SECONDS)

    def reply_is_late(self) -> bool:
        """Whether a reply takes as long as a request; most arrive at once, which is faster to simulate."""
        return self._random.random() < 0.1

    def run(self, call: RedisCall, commands: Sequence[Sequence[Any]], *, may_be_refused: bool = True) -> list[Any]:
        """Have the server run commands now; readers of the edges that they may have added to look again."""
        if may_be_refused and self._refused_until and (error := self._refused(call)):
            return [error] * len(commands)
        replies = self._connection.exchange(commands)
        if self._log is not None:
            self._log.add(self.server.now(), call, commands, replies)
        for listener in self.on_answer:
            listener(call, commands, replies)
        if call.name not in ("read", "pending"):
            for stream in call.streams:
                self.wake(stream)
        return replies

    # Reads that block

    def wake(self, stream: bytes) -> None:
        """Let those that wait for entries of a stream look again."""
        for reader in self._readers.pop(stream, ()):
            if not reader.done():
                reader.set_result(None)

    async def wait_for_entries(self, client_id: int, streams: Sequence[bytes], seconds: float) -> bool:
        """Return after `seconds`, or earlier when something may have been added. False if the client was unblocked."""
        waiting = self._blocked[client_id] = self.loop.background_sleep(seconds)
        for stream in streams:
            self._readers[stream][waiting] = None
        try:
            await waiting
            return client_id in self._blocked
        finally:
            self._blocked.pop(client_id, None)
            for stream in streams:
                self._readers[stream].pop(waiting, None)

    def unblock(self, client_id: int) -> bool:
        """End the blocking read of a client. False if it has none."""
        waiting = self._blocked.pop(client_id, None)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(None)
        return True

    # Leases

    def await_ends_of(self, leases: Mapping[bytes, int]) -> None:
        """These leases of a dead worker end, each after its milliseconds: leaps stop for each look of the others."""
        left = self._connection.exchange([(b"PTTL", lease) for lease in leases])
        for left_ms, lease_ms in zip(left, leases.values(), strict=True):
            for look in range(_LOOKS):
                self.loop.stop_leaps_in((max(0, left_ms) + look * _BETWEEN_LOOKS * lease_ms) / 1000)

    def _keep_leases(self, seconds: float) -> None:
        """Before a leap: live workers would have renewed their leases meanwhile."""
        self._leapt_to = self.loop.time() + seconds
        leases = [lease for worker in self._workers if not worker.is_dead for lease in worker.leases]
        left = self._connection.exchange([(b"PTTL", lease) for lease in leases])
        self._connection.exchange(
            [(b"PEXPIRE", lease, ms + round(seconds * 1000)) for lease, ms in zip(leases, left, strict=True) if ms > 0]
        )

    # What happens to the whole server

    def stall(self, seconds: float) -> None:
        """The server answers nothing for that time."""
        self._stalled_until = max(self._stalled_until, self.loop.time() + seconds)
        self.loop.stop_leaps_in(seconds)

    def stall_seconds(self) -> float:
        """For how long the server still answers nothing."""
        return self._stalled_until - self.loop.time()

    def refuse(self, error: str, seconds: float) -> None:
        """The server answers calls with an error for that time."""
        self._refusal, self._refused_until = error, self.loop.time() + seconds
        self.loop.stop_leaps_in(seconds)

    def _refused(self, call: RedisCall) -> Exception | None:
        if self.loop.time() >= self._refused_until:
            self._refused_until = 0.0
            return None
        if self._refusal == "OOM" and call.name != "publish":
            return None  # flowq settles also when memory is full: it makes room
        return error_of(_ERRORS[self._refusal])

    def fail_over(self, forget: int) -> None:
        """The server forgets its last calls that moved messages, with everything since. All connections break."""
        assert self._log is not None
        self.server.restore(self._log.without_last(forget))
        for worker in self._workers:
            worker.disconnect()
