"""Where a harness runs its workers: a loop and a clock, a server, and the network between them."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Set
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards
from flowq.broker.shards.waves import is_drained, look
from flowq.broker.workers import Workers
from flowq.errors import FlowqError
from flowq.testing.scenario import START, Scenario
from flowq.testing.simulation.direct_dialer import DirectDialer
from flowq.testing.simulation.fake_server import FakeServer
from flowq.testing.simulation.injector import Injector
from flowq.testing.simulation.network import Network
from flowq.testing.simulation.real_server import RealServer
from flowq.testing.simulation.real_timers import RealTimers, Timers
from flowq.testing.simulation.simulated_world import SimulatedWorld
from flowq.testing.simulation.tap import Tap
from flowq.testing.simulation.virtual_loop import NothingLeft, VirtualLoop
from flowq.testing.simulation.virtual_server import Server

__tracebackhide__ = True  # pytest shows the line of the test

T = TypeVar("T")


class Surroundings(ABC):
    """A clock, a server that follows it, and a network with faults. `timers` is the loop, or stands for it."""

    patience_seconds = math.inf  # for how long to wait by default

    def __init__(self, scenario: Scenario, timers: Timers, *, start: float) -> None:
        self._edges = [edge.name for edge in scenario.plan.edges]
        self._n_shards = scenario.plan.shards
        self.keys = Keys(f"harness-{secrets.token_hex(6)}", scenario.plan.name)
        self._looking = VirtualLoop()
        self.timers = timers
        self.world = SimulatedWorld(timers, seed=scenario.seed, start=start)
        self.injector = Injector(scenario.faults)
        self.servers = [self._server(scenario.redis) for _ in range(scenario.n_servers)]
        self.network = Network(
            timers, self.servers[0], others=self.servers[1:], is_sharded=self._n_shards > 1,
            seed=scenario.seed, injector=self.injector,
        )  # fmt: skip
        self._counting = [server.connect() for server in self.servers]
        looking = [DirectDialer(server) for server in self.servers]
        self._outside = self._broker(lambda shard: looking[shard % len(looking)])

    def _server(self, redis: str | None) -> Server:
        if redis is None:
            return FakeServer(self.world.time)
        return RealServer(redis, self.world.time, namespace=self.keys.namespace)

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.fromtimestamp(self.world.time(), UTC)

    @abstractmethod
    def running_loop(self) -> asyncio.AbstractEventLoop:
        """The loop in which workers run."""

    @abstractmethod
    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it among the workers, while the clock moves. Raises NothingLeft."""

    @abstractmethod
    def close(self) -> None:
        """Forget what the server holds. On a virtual clock, end all tasks."""

    def look(self, reading: Callable[[Broker], Coroutine[Any, Any, T]]) -> T:
        """Read something from outside, while the clock stands still and no worker moves."""
        return _run(self._looking, reading(self._outside))

    def is_any_outstanding(self) -> bool:
        """Whether a message is on an edge, or delayed."""
        # The last edge first: a pipeline drains from its beginning, and the first answer that is not 0 ends this.
        for shard in range(self._n_shards):
            keys = self.keys.in_shard(shard)
            counts = [(b"XLEN", keys.edge(e)) for e in self._edges] + [(b"ZCARD", keys.delayed(e)) for e in self._edges]
            counting = self._counting[shard % len(self._counting)]
            if any(counting.exchange([count])[0] for count in reversed(counts)):
                return True
        return self._n_shards > 1 and not self.look(self._are_all_empty)

    async def _are_all_empty(self, broker: Broker) -> bool:
        """Whether nothing is in transit between shards either."""
        return is_drained([await look(each, self._edges) for each in broker.shards])

    def known_workers(self) -> Set[str]:
        """The workers that Redis knows, dead ones included until the others have cleared up after them."""

        async def read(broker: Broker) -> Set[str]:
            found = set[str]()
            for shard in broker.shards:
                workers = Workers(shard)
                found = found.union(await workers.registered(), *(await workers.consumers_of(self._edges)).values())
            return found

        return self.look(read)

    def broker_over(self, tap: Tap) -> Broker:
        """A broker whose calls take that way, and those of all shards."""
        return self._broker(tap.to)

    def _broker(self, dialer_to: Callable[[int], Any]) -> Broker:
        brokers = tuple(
            Broker(dialer_to(shard), self.keys.in_shard(shard), world=self.world) for shard in range(self._n_shards)
        )
        for each in brokers:
            each.shards = brokers
        return brokers[0]

    def _close_server(self) -> None:
        self._looking.run(close_shards(self._outside))
        _end(self._looking)
        for server in self.servers:
            server.close()


class VirtualSurroundings(Surroundings):
    """Surroundings in a loop of their own, whose clock moves when nothing else can happen."""

    def __init__(self, scenario: Scenario) -> None:
        self._loop = VirtualLoop()
        try:
            super().__init__(scenario, self._loop, start=(scenario.start or START).timestamp())
        except BaseException:
            self._loop.close()
            self._looking.close()
            raise

    def running_loop(self) -> asyncio.AbstractEventLoop:
        """As in `Surroundings`."""
        return self._loop

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """As in `Surroundings`: nothing else in the test runs meanwhile."""
        return _run(self._loop, work)

    def close(self) -> None:
        """As in `Surroundings`."""
        _end(self._loop)
        self._close_server()


class RealSurroundings(Surroundings):
    """Surroundings in the loop of the test, whose clock is real. `start` shifts the time of day."""

    patience_seconds = 60.0

    def __init__(self, scenario: Scenario) -> None:
        timers = RealTimers()
        start = time.time() if scenario.start is None else scenario.start.timestamp()
        try:
            super().__init__(scenario, timers, start=start - timers.time())
        except BaseException:
            self._looking.close()
            raise

    def running_loop(self) -> asyncio.AbstractEventLoop:
        """As in `Surroundings`."""
        return asyncio.get_running_loop()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """As in `Surroundings`: the rest of the test runs as well."""
        return await work

    def close(self) -> None:
        """As in `Surroundings`."""
        self._close_server()


def surroundings_of(scenario: Scenario) -> Surroundings:
    """Those that a scenario asks for. Raises BrokerUnavailable if its server cannot be reached."""
    return VirtualSurroundings(scenario) if scenario.clock == "virtual" else RealSurroundings(scenario)


def _run(loop: VirtualLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run it, without the frames of the loop in errors of flowq: they say what is wrong, and a test where."""
    try:
        return loop.run(work)
    except FlowqError as error:
        raise error.with_traceback(None) from error.__cause__


_CANCELLATIONS, _BETWEEN_CANCELLATIONS_SECONDS = 3, 3600.0  # of a handler that swallows them: at last it is left


def _end(loop: VirtualLoop) -> None:
    async def cancel_all() -> None:
        for _ in range(_CANCELLATIONS):
            if not (tasks := asyncio.all_tasks() - {asyncio.current_task()}):
                break
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_BETWEEN_CANCELLATIONS_SECONDS)
        await loop.shutdown_asyncgens()

    with suppress(asyncio.CancelledError, NothingLeft):
        loop.run(cancel_all())
    for task in asyncio.all_tasks(loop):
        _leave(task)
    loop.close()


def _leave(task: asyncio.Task[Any]) -> None:
    """End a task that swallows cancellations. The garbage collector would do it as well, but in any later test."""
    coroutine: Any = task.get_coro()
    for _ in range(_CANCELLATIONS):
        with suppress(BaseException):
            coroutine.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
