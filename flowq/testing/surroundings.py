"""Where a harness runs its workers: a loop and a clock, a server, and the network between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.graph.compilation.plan import Plan
from flowq.testing.faults import Fault
from flowq.testing.simulation.direct_dialer import DirectDialer
from flowq.testing.simulation.fake_server import FakeServer
from flowq.testing.simulation.injector import Injector
from flowq.testing.simulation.network import Network
from flowq.testing.simulation.simulated_world import SimulatedWorld
from flowq.testing.simulation.tap import Tap
from flowq.testing.simulation.virtual_loop import VirtualLoop

__tracebackhide__ = True  # pytest shows the line of the test

T = TypeVar("T")

_QUIET_SECONDS, _QUIET_AMONG_FAULTS_SECONDS = 1.0, 5.0
"""Before a leap of the clock. Background polls find what faults have left behind, so that they get more time then."""


class Surroundings:
    """A virtual clock, a server that follows it, and a network with faults. `start`: seconds since 1970."""

    def __init__(self, pipeline: str, *, seed: int, start: float, faults: Sequence[Fault]) -> None:
        self.loop = VirtualLoop(quiet_seconds=_QUIET_AMONG_FAULTS_SECONDS if faults else _QUIET_SECONDS)
        self.world = SimulatedWorld(self.loop, seed=seed, start=start)
        self.server = FakeServer(self.world.time)
        self.injector = Injector(faults)
        self.network = Network(self.loop, self.server, seed=seed, injector=self.injector)
        self._keys = Keys("harness", pipeline)
        self._counting = self.server.connect()
        self._looking = VirtualLoop()
        self._outside = self._broker(DirectDialer(self.server))

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.fromtimestamp(self.world.time(), UTC)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it among the workers, while the clock moves. Raises NothingLeft."""
        return self.loop.run(work)

    def look(self, reading: Callable[[Broker], Coroutine[Any, Any, T]]) -> T:
        """Read something from outside, while the clock stands still and no worker moves."""
        return self._looking.run(reading(self._outside))

    def n_outstanding(self, plan: Plan) -> int:
        """How many messages are on the edges, delayed ones included."""
        commands: list[tuple[bytes, str]] = []
        for edge in plan.edges:
            commands += [(b"XLEN", self._keys.edge(edge.name)), (b"ZCARD", self._keys.delayed(edge.name))]
        return sum(self._counting.exchange(commands))

    def broker_over(self, tap: Tap) -> Broker:
        """A broker whose calls take that way."""
        return self._broker(tap)

    def _broker(self, dialer: Any) -> Broker:
        return Broker(dialer, self._keys, world=self.world)

    def close(self) -> None:
        """End all tasks, and forget what the server holds."""
        _end(self.loop)
        self._looking.run(self._outside.close())
        _end(self._looking)
        self.server.close()


def _end(loop: VirtualLoop) -> None:
    async def cancel_all() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await loop.shutdown_asyncgens()

    loop.run(cancel_all())
    loop.close()
