"""Runs under faults: nothing lost, nothing handed on twice, judged by what the handlers themselves wrote down."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

import flowq
from flowq import Context, Pipeline, Retry, stage
from flowq.broker import scripts
from flowq.broker.reader import Reader
from flowq.runtime.certificates import certify_child, crashed
from flowq.runtime.run import RunOptions, Summary
from flowq.runtime.runner import Runner
from tests.eventually import eventually
from tests.faults.proxy import Proxy
from tests.redis_server import RedisServer
from tests.runtime.lab import Item, Lab, items
from tests.runtime.record import SHORT_LEASE_SECONDS, Record, recorded


@contextlib.asynccontextmanager
async def repeatedly(fault: Callable[[], Awaitable[object]], *, every_seconds: float) -> AsyncIterator[list[int]]:
    """Do something again and again for as long as the block runs; the list has an entry for each time."""
    times: list[int] = []

    async def go_on() -> None:
        while True:
            await asyncio.sleep(every_seconds)
            await fault()
            times.append(1)

    task = asyncio.create_task(go_on())
    try:
        yield times
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


# Replies that are lost


async def test_a_settlement_whose_reply_is_lost_hands_on_once(far_lab: Lab, proxy: Proxy) -> None:
    record = Record()
    proxy.drop_reply("EVALSHA", 5, containing=scripts.SETTLE.digest)

    await far_lab.run(recorded(record, concurrency=3), *items(100))

    assert proxy.dropped == 5
    record.check(100, reruns=0)


async def test_messages_whose_read_was_lost_run_soon_on_the_worker_that_lives(far_lab: Lab, proxy: Proxy) -> None:
    record = Record()
    proxy.drop_reply("XREADGROUP", 5)
    began = time.monotonic()

    await far_lab.run(recorded(record), *items(100))

    assert proxy.dropped == 5
    assert time.monotonic() - began < 3
    record.check(100, reruns=0)


@pytest.mark.parametrize(
    "script", [scripts.PROMOTE, scripts.REGISTER, scripts.SNAPSHOT, scripts.RETIRE], ids=lambda s: s.name
)
async def test_the_lost_reply_of_any_script_costs_nothing(script: scripts.Script, far_lab: Lab, proxy: Proxy) -> None:
    record = Record()

    @stage(retry=Retry(attempts=2, base=0.01))
    async def flaky(item: Item, ctx: Context) -> Item:
        if ctx.attempt == 1:
            raise ConnectionError
        record.handled[item.n] += 1
        return item

    @stage
    async def last(item: Item, ctx: Context) -> None:
        record.arrived[item.n].add(ctx.message_id)

    proxy.drop_reply("EVALSHA", 2, containing=script.digest)

    await far_lab.run(Pipeline("p", flaky >> last), *items(20))

    assert proxy.dropped >= 1
    record.check(20, reruns=0)


async def test_a_push_whose_reply_is_lost_is_stored_once(far_lab: Lab, proxy: Proxy) -> None:
    pipeline = recorded(Record())
    await far_lab.push(pipeline, "first", Item(n=-1))
    proxy.drop_reply("EVALSHA", 2, containing=scripts.PUBLISH.digest)

    async with flowq.Publisher(pipeline, redis=proxy.url, namespace=far_lab.namespace) as publisher:
        await publisher.push("first", Item(n=1))
        await publisher.push_many("first", items(50))

    assert proxy.dropped == 2
    assert (await far_lab.balance(pipeline))["first"].waiting == 52


async def test_a_source_whose_publishing_reply_is_lost_gives_everything_once(far_lab: Lab, proxy: Proxy) -> None:
    record = Record()

    @flowq.source
    def numbers() -> Iterator[Item]:
        yield from items(3000)

    @stage
    async def last(item: Item, ctx: Context) -> None:
        record.arrived[item.n].add(ctx.message_id)

    proxy.drop_reply("EVALSHA", 2, containing=scripts.PUBLISH.digest)

    await far_lab.run(Pipeline("p", numbers >> last))

    assert proxy.dropped == 2
    record.check(3000, reruns=0)


# Connections and scripts that go


async def test_connections_that_are_killed_again_and_again_cost_time_only(lab: Lab) -> None:
    record = Record()

    async def kill() -> None:
        await lab.command(b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes")

    async with repeatedly(kill, every_seconds=0.05) as kills:
        await lab.run(recorded(record, seconds=0.01), *items(500))

    assert len(kills) >= 5
    record.check(500, reruns=0)


async def test_a_network_that_refuses_for_a_while_is_waited_for(far_lab: Lab, proxy: Proxy) -> None:
    record = Record()

    running = asyncio.create_task(far_lab.run(recorded(record, seconds=0.02), *items(200)))
    for progress in (30, 90):
        await eventually(lambda least=progress: len(record.handled) >= least)
        proxy.refuse()
        await asyncio.sleep(0.2)
        proxy.accept()

    await running
    record.check(200, reruns=0)


async def test_scripts_that_are_forgotten_again_and_again_are_not_missed(lab: Lab) -> None:
    record = Record()

    async def forget() -> None:
        await lab.command(b"SCRIPT", b"FLUSH")

    async with repeatedly(forget, every_seconds=0.01) as times:
        await lab.run(recorded(record, seconds=0.02), *items(200))

    assert len(times) >= 5
    record.check(200, reruns=0)


# A Redis that forgets


async def test_after_flushall_new_input_is_processed_by_the_same_workers(lab: Lab) -> None:
    record = Record()
    pipeline = recorded(record, seconds=0.05, concurrency=2)
    await lab.push(pipeline, "first", *items(20))
    async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS):
        await eventually(lambda: len(record.handled) >= 4)
        await lab.command(b"FLUSHALL")
        handled_before = set(record.handled)
        await asyncio.sleep(0.1)
        await lab.push(pipeline, "first", *[Item(n=n) for n in range(100, 110)])

        await eventually(lambda: set(range(100, 110)) <= set(record.arrived))

    assert {len(ids) for n, ids in record.arrived.items() if n >= 100} == {1}
    assert set(record.handled) <= handled_before | set(range(20)) | set(range(100, 110))
    broker = lab.broker(pipeline)
    assert not any((await broker.consumers_of([edge.name for edge in pipeline.plan.edges])).values())
    assert await broker.registered_workers() == {}


@pytest.mark.parametrize("edge", [">first", "first>last"])
async def test_a_group_that_is_destroyed_loses_no_message(edge: str, lab: Lab) -> None:
    record = Record()
    pipeline = recorded(record, seconds=0.01)
    key = lab.broker(pipeline).keys.edge(edge)

    async def destroy() -> None:
        with contextlib.suppress(Exception):
            await lab.command(b"XGROUP", b"DESTROY", key, b"flowq")

    running = asyncio.create_task(lab.run(pipeline, *items(300)))
    await eventually(lambda: len(record.handled) >= 20)
    await destroy()
    await running

    assert sorted(record.arrived) == list(range(300))
    assert {len(ids) for ids in record.arrived.values()} == {1}


@pytest.mark.parametrize("wrong", [b"min-replicas-to-write", b"maxmemory"])
async def test_a_server_that_refuses_for_a_while_is_waited_for(wrong: bytes, lab: Lab) -> None:
    record = Record()
    pipeline = recorded(record, seconds=0.01)
    running = asyncio.create_task(lab.run(pipeline, *items(300), lease_seconds=SHORT_LEASE_SECONDS))
    try:
        await eventually(lambda: len(record.handled) >= 50)
        await lab.command(b"CONFIG", b"SET", wrong, b"1")
        await asyncio.sleep(SHORT_LEASE_SECONDS)
    finally:
        await lab.command(b"CONFIG", b"SET", wrong, b"0")

    await running
    record.check(300, reruns=0)


# A Redis that dies


async def restarted(server: RedisServer) -> None:
    """kill -9, and back with what its log holds."""
    server.kill()
    await asyncio.to_thread(server.start)


async def test_a_redis_that_is_killed_and_comes_back_with_its_log_loses_and_doubles_nothing(
    unique_namespace: str,
) -> None:
    record = Record()
    with RedisServer("bundled", "--appendonly", "yes", "--appendfsync", "always") as server:
        lab = Lab.at(server.url, unique_namespace)
        pipeline = recorded(record, seconds=0.01)
        running = asyncio.create_task(lab.run(pipeline, *items(400)))
        for progress in (50, 150, 250):
            await eventually(lambda least=progress: len(record.handled) >= least)
            await restarted(server)
        summary: Summary = await running
        await lab.close()

    assert summary.stages["last"].ok == 400
    record.check(400, reruns=0)


# Workers that die, sleep or fall silent


async def test_what_a_dead_worker_left_runs_within_its_lease(lab: Lab) -> None:
    record = Record()
    pipeline = recorded(record)
    dead = lab.broker(pipeline)
    await lab.push(pipeline, "first", *items(30))
    await dead.ensure_groups([">first"])
    await dead.register("dead", {}, lease_ms=100, beat="1")
    reader = Reader(dead, [">first"])
    assert len(await reader.read("dead", count=20, block_ms=10)) == 20
    await reader.close()
    began = time.monotonic()

    await lab.run(pipeline, lease_seconds=SHORT_LEASE_SECONDS)

    assert time.monotonic() - began < 2 * SHORT_LEASE_SECONDS + 0.5
    record.check(30, reruns=0)


async def test_what_a_worker_left_that_is_known_to_be_dead_runs_at_once(lab: Lab) -> None:
    record = Record()
    pipeline = recorded(record)
    dead = lab.broker(pipeline)
    await lab.push(pipeline, "first", *items(30))
    await dead.ensure_groups([">first"])
    await dead.register("dead", {}, lease_ms=3_600_000, beat="1")
    reader = Reader(dead, [">first"])
    await reader.read("dead", count=20, block_ms=10)
    await reader.close()
    await dead.certify_dead("dead", "died of SIGKILL")

    async with lab.running(pipeline):
        await eventually(lambda: len(record.arrived) == 30, seconds=1.0)

    record.check(30, reruns=0)


async def test_a_stage_that_nobody_runs_stops_its_producers_and_lets_them_go_on_when_somebody_does(lab: Lab) -> None:
    record = Record()

    @stage(concurrency=4)
    async def first(item: Item) -> Item:
        record.handled[item.n] += 1
        return item

    @stage(concurrency=4, maxsize=50)
    async def last(item: Item, ctx: Context) -> None:
        record.arrived[item.n].add(ctx.message_id)

    pipeline = Pipeline("p", first >> last)
    await lab.push(pipeline, "first", *items(500))
    async with lab.running(pipeline, stages=["first"]):
        await eventually(lambda: len(record.handled) >= 50)
        await asyncio.sleep(0.5)
        assert (await lab.balance(pipeline))["last"].waiting <= 2 * 50 + 4
        async with lab.running(pipeline, stages=["last"]):
            await eventually(lambda: len(record.arrived) == 500)

    record.check(500, reruns=0)


async def test_a_housekeeper_that_stumbles_is_told_of_and_begins_again(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    record = Record()
    pipeline = recorded(record)
    dead = lab.broker(pipeline)
    await lab.push(pipeline, "first", *items(30))
    await dead.ensure_groups([">first"])
    await dead.register("dead", {}, lease_ms=1, beat="1")
    reader = Reader(dead, [">first"])
    await reader.read("dead", count=20, block_ms=10)
    await reader.close()
    await lab.command(b"HSET", dead.keys.workers, b"nobody", b"no json")

    async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS) as runner:
        await eventually(lambda: "the reclaimer failed" in caplog.text)
        assert not runner.ended.done()
        await lab.command(b"HDEL", dead.keys.workers, b"nobody")
        await eventually(lambda: len(record.arrived) == 30)

    record.check(30, reruns=0)
    assert caplog.text.count("Traceback") == 1


async def test_code_that_blocks_the_loop_for_longer_than_the_lease_keeps_its_messages(lab: Lab) -> None:
    record = Record()

    @stage(concurrency=1)
    async def first(item: Item) -> Item:
        record.handled[item.n] += 1
        await asyncio.to_thread(others_may_look.wait, 3)  # the lease of a thread that waits is renewed as well
        return item

    others_may_look = threading.Event()

    @stage
    async def last(item: Item, ctx: Context) -> None:
        record.arrived[item.n].add(ctx.message_id)

    pipeline = Pipeline("p", first >> last)
    await lab.push(pipeline, "first", Item(n=0))
    async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS):
        await eventually(lambda: record.handled[0] == 1)
        async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS):
            time.sleep(2 * SHORT_LEASE_SECONDS)  # noqa: ASYNC251  (blocking both loops is what is tried)
            others_may_look.set()
            await eventually(lambda: record.arrived[0])

    record.check(1, reruns=0)


async def test_a_worker_cut_off_for_longer_than_its_lease_is_replaced_and_doubles_nothing(
    lab: Lab, far_lab: Lab, proxy: Proxy
) -> None:
    record = Record()
    names: set[str] = set()
    release = asyncio.Event()

    @stage(concurrency=5)
    async def first(item: Item) -> Item:
        record.handled[item.n] += 1
        if record.handled[item.n] == 1:
            await release.wait()
        return item

    @stage
    async def last(item: Item, ctx: Context) -> None:
        record.arrived[item.n].add(ctx.message_id)

    pipeline = Pipeline("p", first >> last)
    await lab.push(pipeline, "first", *items(5))
    cut_off = Runner(pipeline.plan, far_lab.broker(pipeline), RunOptions(lease_seconds=SHORT_LEASE_SECONDS))
    await cut_off.start()
    names.add(cut_off.worker)
    await eventually(lambda: len(record.handled) == 5)

    proxy.stall()
    async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS):
        await eventually(lambda: len(record.arrived) == 5)
        release.set()
        proxy.resume()
        await eventually(lambda: cut_off.worker not in names)
        await lab.push(pipeline, "first", *[Item(n=n) for n in range(5, 50)])
        await eventually(lambda: len(record.arrived) == 50)
        await cut_off.stop()

    record.check(50, reruns=5)
    balance = await lab.balance(pipeline)
    assert (balance["first"].ok, balance["last"].ok, balance["first"].dead) == (50, 50, 0)


async def test_the_death_of_a_worker_is_certified_under_every_name_it_had(lab: Lab) -> None:
    pipeline = recorded(Record())
    broker = lab.broker(pipeline)
    async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS) as runner:
        name = runner.worker
        await lab.command(b"HDEL", broker.keys.workers, name)

        async def is_back() -> bool:
            return runner.worker != name and runner.worker in await broker.registered_workers()

        await eventually(is_back)
        assert await certify_child(broker, os.getpid(), "died of SIGKILL", was_asked=False)
        assert crashed(await broker.certificates()).keys() == {name, runner.worker}


async def test_a_worker_that_lost_its_registration_goes_on_under_another_name(lab: Lab) -> None:
    record = Record()
    pipeline = recorded(record, seconds=0.01)
    keys = lab.broker(pipeline).keys
    await lab.push(pipeline, "first", *items(100))
    async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS) as runner:
        name = runner.worker
        await eventually(lambda: len(record.handled) >= 20)
        await lab.command(b"HDEL", keys.workers, name)
        await eventually(lambda: runner.worker != name)
        await lab.push(pipeline, "first", *[Item(n=n) for n in range(100, 200)])
        await eventually(lambda: len(record.arrived) == 200)

    record.check(200, reruns=0)
    assert not any((await lab.broker(pipeline).consumers_of([">first", "first>last", ">last"])).values())
