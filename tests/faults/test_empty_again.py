"""A server restarts empty in the middle of a run: the run does not call that drained."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

import flowq
from flowq import Pipeline, stage
from flowq.errors import RunLost
from tests.eventually import eventually
from tests.integration.project import Project
from tests.redis_server import RedisServer
from tests.runtime.lab import Item

SAFETY_SECONDS = 60.0

WAITING = """
import time
from collections.abc import Iterator
from pathlib import Path
from pydantic import BaseModel
from flowq import Pipeline, source, stage

class Item(BaseModel):
    n: int

@source
def numbers() -> Iterator[Item]:
    yield Item(n=0)
    while not Path("go-on").exists():
        time.sleep(0.01)
    yield Item(n=1)

@stage
async def store(item: Item) -> None:
    print("GOT", item.n, flush=True)

lab = Pipeline("lab", numbers >> store)
"""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """It keeps nothing."""
    with RedisServer("bundled") as server:
        yield server


async def test_a_run_whose_server_restarts_empty_ends_with_an_error_while_its_source_runs(
    server: RedisServer, unique_namespace: str
) -> None:
    stored: list[int] = []
    goes_on = asyncio.Event()

    @flowq.source
    async def numbers() -> AsyncIterator[Item]:
        yield Item(n=0)
        await goes_on.wait()
        yield Item(n=1)

    @stage
    async def store(item: Item) -> None:
        stored.append(item.n)

    running = asyncio.create_task(
        flowq.run(Pipeline("lab", numbers >> store), redis=server.url, namespace=unique_namespace)
    )
    await eventually(lambda: stored == [0])
    server.kill()
    server.start()

    with pytest.raises(RunLost):
        async with asyncio.timeout(SAFETY_SECONDS):
            await running


def n_snapshots(server: RedisServer) -> int:
    """How often pending messages of the two edges have been listed."""
    with redis.Redis.from_url(server.url) as client:
        statistics = client.info("commandstats").get("cmdstat_xpending", {"calls": 0})
        return int(statistics["calls"]) // 2


async def test_a_run_without_sources_whose_server_restarts_empty_ends_with_an_error(
    server: RedisServer, unique_namespace: str
) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    @stage
    async def hold(item: Item) -> Item:
        started.set()
        await gate.wait()
        return item

    @stage
    async def store(item: Item) -> None: ...

    pipeline = Pipeline("lab", hold >> store)
    async with flowq.Publisher(pipeline, redis=server.url, namespace=unique_namespace) as publisher:
        await publisher.push_many(hold, [Item(n=n) for n in range(50)])
    running = asyncio.create_task(flowq.run(pipeline, redis=server.url, namespace=unique_namespace, grace=0.1))
    await started.wait()
    before = n_snapshots(server)
    await eventually(lambda: n_snapshots(server) > before + 2)
    server.kill()
    server.start()

    with pytest.raises(RunLost):
        async with asyncio.timeout(SAFETY_SECONDS):
            await running


def test_the_command_says_that_the_run_is_lost(server: RedisServer, tmp_path: Path, unique_namespace: str) -> None:
    with Project(tmp_path, FLOWQ_REDIS_URL=server.url, FLOWQ_NAMESPACE=unique_namespace) as project:
        project.write("lab", WAITING)
        run = project.start("run", "lab", "--grace", "1s")
        run.wait_for(lambda: "GOT 0" in run.stdout)
        server.kill()
        server.start()

        assert run.wait() == 4, run.stderr
        assert "error[FQ406]" in run.stderr
        assert "drained in" not in run.stderr
