"""Workers without loops of their own, on a simulated network with faults: what they do is what the test calls."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.message_ids import MessageIds
from flowq.broker.publishing import Publishing
from flowq.broker.reader import Reader
from flowq.broker.records import Published
from flowq.broker.redis_streams import Broker
from flowq.broker.settling import Settling
from flowq.broker.workers import Workers
from flowq.delivery.message import Header
from flowq.delivery.settlement import Output
from flowq.testing.faults import Fault
from flowq.testing.simulation.fake_server import FakeServer
from flowq.testing.simulation.injector import Injector
from flowq.testing.simulation.network import Network
from flowq.testing.simulation.simulated_world import SimulatedWorld
from flowq.testing.simulation.tap import Tap
from flowq.testing.simulation.virtual_loop import VirtualLoop
from flowq.testing.simulation.virtual_server import Now, Server
from tests.conformance.worker import EDGES, IN, LEASE_MS, Worker

T = TypeVar("T")
START = 1_000_000_000.0


@dataclass
class Member(Worker):
    """A worker with its tap."""

    tap: Tap
    ids: MessageIds

    async def publish(self, *bodies: bytes, edge: str = IN) -> Published:
        """Publish messages whose ids depend on the seed alone."""
        outputs = [Output(edge, Header.entering(self.ids.next().decode()).encode(), body, b"", 0) for body in bodies]
        return await Publishing(self.broker).publish(edge, outputs, token=self.broker.new_token())

    async def reads(self, n: int = 100, *, block_ms: int = 1000) -> list[bytes]:
        """Read once, and return the bodies."""
        return [body for _, _, _, body, *_ in await self.reader.read(self.name, count=n, block_ms=block_ms)]


class NetworkLab:
    """A loop, a server and a network with faults. `crashed` and `restarted` name the workers that had to."""

    def __init__(
        self,
        faults: Sequence[Fault] = (),
        *,
        seed: int = 7,
        server: Callable[[Now], Server] = FakeServer,
        namespace: str = "lab",
    ) -> None:
        self.loop = VirtualLoop()
        self.world = SimulatedWorld(self.loop, seed=seed, start=START)
        self.server = server(self.world.time)
        self.injector = Injector(faults)
        self.network = Network(self.loop, self.server, seed=seed, injector=self.injector)
        self.keys = Keys(namespace, "lab")
        self.crashed: list[str] = []
        self.restarted: list[str] = []
        self._connection = self.server.connect()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it on the virtual loop."""
        return self.loop.run(work)

    def ask(self, *command: Any) -> Any:
        """Ask the server itself."""
        return self._connection.exchange([command])[0]

    @property
    def bodies(self) -> list[bytes]:
        """Those of all messages that wait or run on the edge into the stage."""
        return [
            dict(zip(fields[::2], fields[1::2], strict=True))[b"b"]
            for _, fields in self.ask(b"XRANGE", self.keys.edge(IN), b"-", b"+")
        ]

    @property
    def n_pending(self) -> int:
        """How many messages workers hold."""
        n: int = self.ask(b"XPENDING", self.keys.edge(IN), b"flowq")[0]
        return n

    def tap(self, name: str, **options: Any) -> Tap:
        """The way of a worker to the server."""
        return Tap(
            self.network,
            name,
            on_crash=lambda: self.crashed.append(name),
            on_restart=lambda: self.restarted.append(name),
            **options,
        )

    async def member(self, name: str, **options: Any) -> Member:
        """A registered worker."""
        tap = self.tap(name, **options)
        broker = Broker(tap, self.keys, world=self.world)
        await Edges(broker).ensure_groups(EDGES)
        await Workers(broker).register(name, {}, lease_ms=LEASE_MS, heartbeat="1")
        settling = Settling(broker, {})
        await settling.connect()
        return Member(name, broker, Reader(broker, [IN]), settling, tap, MessageIds(self.world))

    def close(self) -> None:
        self.server.close()
        self.loop.close()
