"""What the workers of a simulation share: the server, the delays on the way to it, and who waits for what."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Protocol

from flowq.testing.simulation.calls import Messages, RedisCall, shard_of
from flowq.testing.simulation.injector import Injector
from flowq.testing.simulation.real_timers import Timers
from flowq.testing.simulation.replicated_node import Node
from flowq.testing.simulation.trace import Event, Trace
from flowq.testing.simulation.virtual_server import Server
from flowq.testing.simulation.write_log import Answered

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.0001, 0.001
_SHORTEST_DETOUR_SECONDS, _LONGEST_DETOUR_SECONDS = 0.005, 0.05
_LOOKS, _BETWEEN_LOOKS = 5, 0.45  # others look at least twice, each time after a good third of a lease


class Worker(Protocol):
    """What the network needs to know of a worker."""

    is_dead: bool
    leases: dict[bytes, int]  # keys of the leases that it has renewed, and for how many milliseconds

    def disconnect(self, node: Node | None = None) -> None:
        """Cut all its connections, or those to one node."""
        ...


class Network:
    """Everything between the workers and the servers.

    Each call takes a short virtual time that the seed decides, and with it the order in which calls of different
    workers arrive. A server runs one call after the other, in this thread. With `others`, servers beside the first,
    the shards of a pipeline are dealt out in turn, and what a replica has not confirmed may be forgotten.
    """

    def __init__(
        self,
        loop: Timers,
        server: Server,
        *,
        others: Sequence[Server] = (),
        is_sharded: bool = False,
        seed: int = 0,
        injector: Injector | None = None,
    ) -> None:
        self.loop = loop
        self.is_sharded = is_sharded
        self.trace = Trace()
        self.injector = injector or Injector()
        self.messages = Messages()
        self._random = Random(f"network {seed}")
        remembers = is_sharded or self.injector.may_fail_over
        self.nodes = [
            Node(loop, each, number, Random(f"replica {seed} {number}") if remembers else None)
            for number, each in enumerate((server, *others))
        ]
        self._readers: defaultdict[bytes, dict[asyncio.Future[None], None]] = defaultdict(dict)
        self._blocked: dict[int, asyncio.Future[None]] = {}
        self._n_clients = 0
        self._workers: list[Worker] = []
        self._leapt_to = -math.inf
        self.on_answer: list[Callable[[RedisCall, Sequence[Sequence[Any]], Sequence[Any]], None]] = []
        """Called with each call that the server has answered, its commands and their replies."""
        self.on_forgotten: list[Callable[[Answered], None]] = []
        """Called with each call that a server has forgotten, the last one first."""
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

    def node_of(self, shard: int) -> Node:
        """The server that a shard is on."""
        return self.nodes[shard % len(self.nodes)]

    def run(
        self, node: Node, call: RedisCall, commands: Sequence[Sequence[Any]], *, may_be_refused: bool = True
    ) -> list[Any]:
        """Have a server run commands now; readers of the edges that they may have added to look again."""
        replies, have_run = node.run(call, commands, may_be_refused=may_be_refused)
        if not have_run:
            return replies
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
        for lease, lease_ms in leases.items():
            (left_ms,) = self.node_of(shard_of(lease)).exchange([(b"PTTL", lease)])
            for look in range(_LOOKS):
                self.loop.stop_leaps_in((max(0, left_ms) + look * _BETWEEN_LOOKS * lease_ms) / 1000)

    def _keep_leases(self, seconds: float) -> None:
        """Before a leap: live workers would have renewed their leases meanwhile."""
        self._leapt_to = self.loop.time() + seconds
        by_node = defaultdict[Node, list[bytes]](list)
        for worker in self._workers:
            for lease in worker.leases if not worker.is_dead else ():
                by_node[self.node_of(shard_of(lease))].append(lease)
        for node, leases in by_node.items():
            left = node.exchange([(b"PTTL", lease) for lease in leases])
            node.exchange(
                [
                    (b"PEXPIRE", lease, ms + round(seconds * 1000))
                    for lease, ms in zip(leases, left, strict=True)
                    if ms > 0
                ]
            )

    # What happens to a whole server

    def fail_over(self, node: Node, forget: int) -> None:
        """A server forgets its last calls that moved messages, with everything since. Connections to it break."""
        forgotten = node.fail_over(forget)
        for answered in reversed(forgotten):
            for listener in self.on_forgotten:
                listener(answered)
        for worker in self._workers:
            worker.disconnect(node)
