"""Runs under faults: nothing is lost, nothing is passed on twice, by the handlers' own records."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

import flowq
from flowq import Context, Pipeline, Retry, stage
from flowq.broker import scripts
from flowq.broker.workers import Workers
from flowq.errors import BrokerUnavailable
from flowq.runtime.run import Summary
from tests.eventually import eventually
from tests.faults.proxy import Proxy
from tests.redis_server import RedisServer
from tests.runtime.lab import Item, Lab, Other, items
from tests.runtime.record import SHORT_LEASE_SECONDS, Record, recorded

FEWEST_TIMES = 5


@contextlib.asynccontextmanager
async def repeatedly(fault: Callable[[], Awaitable[object]], *, every_seconds: float) -> AsyncIterator[asyncio.Event]:
    """Do something again and again for as long as the block runs; the event is set once it has been done enough."""
    enough = asyncio.Event()

    async def go_on() -> None:
        for n_times in itertools.count(1):
            await asyncio.sleep(every_seconds)
            await fault()
            if n_times == FEWEST_TIMES:
                enough.set()

    task = asyncio.create_task(go_on())
    try:
        yield enough
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
    await far_lab.run(recorded(record), *items(100), lease_seconds=600)  # longer than the run may take

    assert proxy.dropped == 5
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
    proxy.drop_reply("EVALSHA", 2, containing=scripts.PUBLISH_PLAIN.digest)

    async with flowq.Publisher(pipeline, redis=proxy.url, namespace=far_lab.namespace) as publisher:
        await publisher.push("first", Item(n=1))
        await publisher.push_many("first", items(50))

    assert proxy.dropped == 2
    assert (await far_lab.balance(pipeline))["first"].waiting == 52


async def test_a_push_whose_replies_are_lost_knows_its_own_message_from_an_earlier_one(
    far_lab: Lab, proxy: Proxy
) -> None:
    pipeline = recorded(Record())
    async with flowq.Publisher(pipeline, redis=proxy.url, namespace=far_lab.namespace) as publisher:
        await publisher.push("first", Item(n=0), id="earlier")
        found = []
        for message_id in ("mine", "earlier", "mine", "also mine"):
            for script in (scripts.PUBLISH_PLAIN, scripts.PUBLISH):
                proxy.drop_reply("EVALSHA", containing=script.digest)
            found.append((await publisher.push("first", Item(n=1), id=message_id)).is_new)
        without_an_id = await publisher.push("first", Item(n=1))

    assert proxy.dropped == 8
    assert found == [True, False, False, True]
    assert without_an_id.is_new
    assert (await far_lab.balance(pipeline))["first"].waiting == 4


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


LARGE = [Other(text="x" * 600_000 + f"{n}") for n in range(3)]  # together more than the least that a Redis accepts


@stage
async def take(other: Other) -> None: ...


async def test_a_large_push_whose_replies_are_all_lost_is_stored_once(far_lab: Lab, proxy: Proxy) -> None:
    pipeline = Pipeline("p", take)
    await far_lab.push(pipeline, take, Other(text="so that the script is known"))
    proxy.drop_reply("EVALSHA", 5, containing=scripts.PUBLISH_PLAIN.digest)

    async with flowq.Publisher(pipeline, redis=proxy.url, namespace=far_lab.namespace) as publisher:
        with pytest.raises(BrokerUnavailable):
            await publisher.push_many(take, LARGE, id="a")
        assert proxy.dropped == 5
        await publisher.push_many(take, LARGE, id="a")

    assert (await far_lab.balance(pipeline))["take"].waiting == 1 + len(LARGE)


async def test_a_source_whose_large_messages_lose_their_replies_gives_them_once(far_lab: Lab, proxy: Proxy) -> None:
    @flowq.source
    async def texts() -> AsyncIterator[Other]:
        for other in LARGE:
            yield other
        await eventually(lambda: proxy.dropped == 3)

    # Only a call that was made can be recognised. A push would not load this script: it takes the short one.
    await far_lab.command(b"SCRIPT", b"LOAD", scripts.PUBLISH.text)
    proxy.drop_reply("EVALSHA", 3, containing=scripts.PUBLISH.digest)

    summary = await far_lab.run(Pipeline("p", texts >> take))

    assert (summary.stages["take"].ok, summary.stages["take"].dead) == (len(LARGE), 0)


# Connections and scripts that go


async def test_connections_that_are_killed_again_and_again_cost_time_only(lab: Lab) -> None:
    record = Record()

    async def kill() -> None:
        await lab.command(b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes")

    async with repeatedly(kill, every_seconds=0.05) as enough:
        await lab.run(recorded(record, seconds=0.01, lasts_until=enough), *items(500))

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

    async with repeatedly(forget, every_seconds=0.01) as enough:
        await lab.run(recorded(record, seconds=0.02, lasts_until=enough), *items(200))

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
    assert not any((await Workers(broker).consumers_of([edge.name for edge in pipeline.plan.edges])).values())
    assert await Workers(broker).registered() == {}


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


async def test_a_redis_killed_and_restarted_with_its_log_loses_and_doubles_nothing(unique_namespace: str) -> None:
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
