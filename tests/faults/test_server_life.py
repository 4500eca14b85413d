"""Restarts and faults of a server: a run outlives them by itself, loses nothing, and does not flood its log."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import redis

from tests.eventually import eventually
from tests.faults.servers import DurableServer
from tests.faults.survivor import Survivor, lasts, outage
from tests.redis_server import KINDS

OUTAGE_SECONDS = 1.0


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[DurableServer]:
    with DurableServer(request.param) as server:
        yield server


@pytest.fixture
async def survivor(server: DurableServer, unique_namespace: str) -> AsyncIterator[Survivor]:
    survivor = Survivor(server, unique_namespace)
    yield survivor
    await survivor.lab.close()


@contextmanager
def refusing(server: DurableServer, why: str) -> Iterator[None]:
    """A server that refuses writes for one reason or another, until the block ends."""
    with server.client() as client:
        match why:
            case "READONLY":
                client.replicaof("127.0.0.1", "1")
                yield
                client.replicaof("NO", "ONE")
            case "NOREPLICAS":
                client.config_set("min-replicas-to-write", 1)
                yield
                client.config_set("min-replicas-to-write", 0)
            case "MISCONF":
                snapshot = server.folder / "dump.rdb"
                snapshot.mkdir()  # a file cannot take its place, so that no snapshot can be written
                client.config_set("save", "3600 1")
                _snapshot(client, "err")
                yield
                snapshot.rmdir()
                _snapshot(client, "ok")
            case _:
                client.config_set("maxmemory", 1)
                yield
                client.config_set("maxmemory", 0)


def _snapshot(client: redis.Redis, status: str) -> None:
    client.bgsave()
    while client.info("persistence")["rdb_last_bgsave_status"] != status:
        pass


@pytest.mark.parametrize("why", ["READONLY", "NOREPLICAS", "MISCONF"])
async def test_a_run_waits_for_a_server_that_refuses_to_write(
    why: str, survivor: Survivor, caplog: pytest.LogCaptureFixture
) -> None:
    async with survivor.working():
        survivor.gate.clear()
        await survivor.push(range(100))
        await eventually(lambda: len(survivor.runs) > 0)
        async with outage(caplog):
            with refusing(survivor.server, why):
                survivor.gate.set()
                await lasts(OUTAGE_SECONDS, still=lambda: not survivor.stored)
        await survivor.stores(range(100))
        await survivor.push([100])
        await survivor.stores([100])

    assert not survivor.entries("work>store")


async def test_a_run_that_starts_while_memory_is_full_drains_the_pipeline(
    survivor: Survivor, caplog: pytest.LogCaptureFixture
) -> None:
    await survivor.push(range(100))

    async with outage(caplog):
        with refusing(survivor.server, "OOM"):
            async with survivor.working():
                await survivor.stores(range(100))

    assert not survivor.entries(">work")
    assert not survivor.entries("work>store")


@asynccontextmanager
async def loading(server: DurableServer) -> AsyncIterator[None]:
    """A server that is read back from disk slowly: from the beginning of the block until its end."""
    with server.client() as client, client.pipeline(transaction=False) as pipe:
        for n in range(12_000):
            pipe.set(f"ballast:{n}", n)
        pipe.execute()
    server.kill()
    server.options = (*server.options, "--key-load-delay", "500")  # microseconds; it listens at every 1024th key
    starting = asyncio.create_task(asyncio.to_thread(server.start))
    await eventually(lambda: is_loading(server))
    yield
    assert is_loading(server), "it was over too soon to show anything"
    with server.client() as client:
        client.config_set("key-load-delay", 0)
    await starting


def is_loading(server: DurableServer) -> bool:
    try:
        with server.client() as client:
            client.ping()
    except redis.BusyLoadingError:
        return True
    except redis.ConnectionError:
        pass
    return False


async def test_a_run_waits_for_a_server_that_is_loading(survivor: Survivor, caplog: pytest.LogCaptureFixture) -> None:
    async with survivor.working():
        survivor.gate.clear()
        await survivor.push(range(100))
        await eventually(lambda: len(survivor.runs) > 0)
        async with outage(caplog), loading(survivor.server):
            early = asyncio.create_task(survivor.run())
            survivor.gate.set()
            await lasts(OUTAGE_SECONDS / 2, still=lambda: not survivor.stored and not early.done())
        await survivor.stores(range(100))
        await eventually(lambda: survivor.registered() == 2)
        early.cancel()
        await asyncio.wait([early])


@pytest.mark.parametrize("n", [0, 100], ids=["idle", "at work"])
async def test_flushall_takes_only_what_is_there(n: int, survivor: Survivor, caplog: pytest.LogCaptureFixture) -> None:
    async with survivor.working():
        survivor.gate.clear()
        await survivor.push(range(n))
        await eventually(lambda: survivor.runs.total() >= min(n, 4))
        async with outage(caplog):
            with survivor.server.client() as client:
                client.flushall()
            survivor.gate.set()
            await survivor.push(range(1000, 1100))
            await survivor.stores(range(1000, 1100))

    assert not survivor.entries(">work")
    assert not survivor.entries("work>store")


async def test_a_group_that_is_destroyed_is_made_again_and_nothing_is_passed_over(
    survivor: Survivor, caplog: pytest.LogCaptureFixture
) -> None:
    async with survivor.working():
        survivor.gate.clear()
        await survivor.push(range(100))
        await eventually(lambda: len(survivor.runs) > 0)
        async with outage(caplog):
            with survivor.server.client() as client:
                for edge in (">work", "work>store"):
                    client.xgroup_destroy(survivor.key(f"edge:{edge}"), "flowq")
            survivor.gate.set()
            await survivor.stores(range(100))

    assert set(survivor.stored.values()) == {1}
    assert not survivor.entries(">work")


async def test_a_script_that_never_ends_is_waited_for(survivor: Survivor, caplog: pytest.LogCaptureFixture) -> None:
    def spin() -> None:
        with survivor.server.client() as client, pytest.raises(redis.ResponseError, match="killed"):
            client.eval("while true do end", 0)

    async with survivor.working():
        with survivor.server.client() as client:
            client.config_set("busy-reply-threshold", 100)
            survivor.gate.clear()
            await survivor.push(range(100))
            await eventually(lambda: len(survivor.runs) > 0)
            async with outage(caplog):
                spinning = asyncio.create_task(asyncio.to_thread(spin))
                survivor.gate.set()
                await lasts(OUTAGE_SECONDS)
                client.script_kill()
                await spinning
        await survivor.stores(range(100))

    assert set(survivor.stored.values()) == {1}


async def test_a_run_that_is_stopped_while_its_server_is_gone_ends_with_a_word_and_no_traceback(
    survivor: Survivor, caplog: pytest.LogCaptureFixture
) -> None:
    async with survivor.working():
        survivor.gate.clear()
        await survivor.push(range(10))
        await eventually(lambda: len(survivor.runs) > 0)
        survivor.server.kill()
        survivor.gate.set()
    gc.collect()  # an error that was never retrieved is logged when it is freed

    assert "other workers will reclaim" in caplog.text
    assert "Traceback" not in caplog.text
