"""Every promise of the broker is tested on each server: the one in memory, the oldest and the newest real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

import pytest

from flowq.broker.client.connection import Dialer, Link, UrlDialer
from flowq.broker.client.memory import MemoryDialer
from flowq.broker.keys import Keys
from flowq.delivery.policy import DedupMemory
from tests.conformance.worker import Worker
from tests.conftest import Servers
from tests.redis_server import KINDS

Command = Callable[..., Awaitable[Any]]


class SignOn(Protocol):
    async def __call__(
        self,
        name: str,
        *,
        edges: tuple[str, ...] = ...,
        deduplicating: tuple[str, ...] = ...,
        seen: Mapping[str, DedupMemory] | None = ...,
    ) -> Worker:
        """Add another worker to the laboratory."""
        ...


@pytest.fixture(params=("memory", *KINDS))
def dialer(request: pytest.FixtureRequest, redis_server: Servers) -> Dialer:
    """Connections to a server of each kind in turn."""
    return MemoryDialer() if request.param == "memory" else UrlDialer(redis_server(request.param).url)


@pytest.fixture
def real_dialer(redis_url: str) -> Dialer:
    """Connections to the real servers only: for what the one in memory does not imitate."""
    return UrlDialer(redis_url)


@pytest.fixture
def keys(unique_namespace: str) -> Keys:
    return Keys(unique_namespace, "lab")


@pytest.fixture
async def sign_on(dialer: Dialer, keys: Keys) -> AsyncIterator[SignOn]:
    """Make workers, closed when the test ends."""
    workers: list[Worker] = []

    async def add(name: str, **options: Any) -> Worker:
        workers.append(worker := await Worker.sign_on(dialer, keys, name, **options))
        return worker

    yield add
    for worker in workers:
        await worker.close()


@pytest.fixture
async def worker(sign_on: SignOn) -> Worker:
    """A worker that is registered and reads the inlet of the stage `parse`."""
    return await sign_on("first")


@pytest.fixture
async def other(sign_on: SignOn, worker: Worker) -> Worker:
    """A second one, in another process as it were."""
    return await sign_on("second")


@pytest.fixture
async def redis(dialer: Dialer) -> AsyncIterator[Command]:
    """A direct connection to Redis for any command. An error reply is raised."""
    link = Link(dialer)

    async def send(*command: Any) -> Any:
        return await link.call(*command, timeout_seconds=60)

    yield send
    await link.close()


async def server_ms(redis: Command) -> int:
    """What the clock of the server says, in milliseconds since 1970."""
    seconds, microseconds = await redis(b"TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000
