"""Stopping: running messages may finish, others go to another worker at once, and nothing delays the stop."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from flowq import Context, Pipeline, RetryLater, stage
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import RunOptions
from tests.eventually import eventually
from tests.redis_server import RedisServer
from tests.runtime.lab import Item, Lab, items
from tests.runtime.stopping import FOREVER_SECONDS, started, stopping


async def test_what_runs_finishes_and_what_has_not_started_is_handed_back_uncounted(lab: Lab) -> None:
    begun: list[int] = []
    finish = asyncio.Event()

    @stage(concurrency=2)
    async def slow(item: Item, ctx: Context) -> None:
        assert ctx.attempt == 1
        begun.append(item.n)
        await finish.wait()

    pipeline = Pipeline("p", slow)
    await lab.push(pipeline, slow, *items(2))
    runner = await started(lab, pipeline)
    await eventually(lambda: len(begun) == 2)
    await lab.push(pipeline, slow, *[Item(n=n) for n in range(2, 10)])

    stop = asyncio.create_task(runner.stop())
    done_early, _ = await asyncio.wait([stop], timeout=0.05)
    assert not done_early
    finish.set()
    await stop

    assert begun == [0, 1]
    balance = (await lab.balance(pipeline))["slow"]
    assert (balance.ok, balance.waiting, balance.running, balance.retries) == (2, 8, 0, 0)
    await lab.run(pipeline)
    assert sorted(begun) == list(range(10))


async def test_what_was_read_ahead_runs_elsewhere_while_the_stop_still_waits(lab: Lab) -> None:
    ran_on: dict[int, str] = {}
    quick, finish = asyncio.Event(), asyncio.Event()

    def pipeline(where: str) -> Pipeline:
        @stage(name="work", concurrency=1)
        async def work(item: Item) -> None:
            ran_on[item.n] = where
            if item.n == 0:
                quick.set()
                await finish.wait()

        return Pipeline("p", work)

    # A stage that has been fast reads ahead; message 0 then holds up those behind it.
    here, there = pipeline("here"), pipeline("there")
    await lab.push(here, "work", *[Item(n=n) for n in range(100, 1100)])
    first = await started(lab, here)
    await eventually(lambda: len(ran_on) == 1000)
    await lab.push(here, "work", *items(50))
    await quick.wait()

    stop = asyncio.create_task(first.stop())
    second = await started(lab, there)
    await eventually(lambda: all(n in ran_on for n in range(50)))
    assert not stop.done()
    finish.set()
    await stop
    await second.stop()

    assert [ran_on[n] for n in range(50)] == ["here"] + ["there"] * 49


async def test_nothing_new_is_started_while_stopping(lab: Lab) -> None:
    begun: list[int] = []
    finish = asyncio.Event()

    @stage(concurrency=4)
    async def slow(item: Item) -> None:
        begun.append(item.n)
        await finish.wait()

    pipeline = Pipeline("p", slow)
    await lab.push(pipeline, slow, Item(n=0))
    runner = await started(lab, pipeline)
    await eventually(lambda: begun == [0])

    stop = asyncio.create_task(runner.stop())
    await asyncio.sleep(0)
    await lab.push(pipeline, slow, *[Item(n=n) for n in range(1, 5)])

    async def handed_back() -> bool:
        balance = (await lab.balance(pipeline))["slow"]
        return (balance.waiting, balance.running) == (4, 1)

    await eventually(handed_back)
    assert begun == [0]
    finish.set()
    await stop
    assert begun == [0]


async def test_a_batch_that_is_still_gathering_does_not_wait_for_its_linger(lab: Lab) -> None:
    stored: list[int] = []

    @stage(batch=100, linger=FOREVER_SECONDS)
    async def store(batch: list[Item]) -> None:
        stored.extend(item.n for item in batch)

    pipeline = Pipeline("p", store)
    await lab.push(pipeline, store, *items(3))
    runner = await started(lab, pipeline)
    await eventually(lambda: not runner.is_idle)

    async with stopping():
        await runner.stop()

    balance = (await lab.balance(pipeline))["store"]
    assert balance.running == 0
    assert len(stored) + balance.waiting == 3


async def test_what_is_delayed_stays_delayed(lab: Lab) -> None:
    ran = asyncio.Event()

    @stage
    async def later(item: Item) -> None:
        ran.set()
        raise RetryLater(after=60)

    pipeline = Pipeline("p", later)
    await lab.push(pipeline, later, Item())
    async with lab.running(pipeline):
        await ran.wait()

    assert (await lab.balance(pipeline))["later"].delayed == 1


async def test_an_idle_runner_stops_without_waiting_for_its_reads(lab: Lab) -> None:
    @stage
    async def idle(item: Item) -> None: ...

    loop, took = asyncio.get_running_loop(), list[float]()
    for _ in range(5):
        runner = await started(lab, Pipeline("p", idle, idle.options(name="idle_2"), idle.options(name="idle_3")))
        began = loop.time()
        await runner.stop()
        took.append(loop.time() - began)

    assert min(took) < 1.0, "a read waits for two seconds, and a busy machine delays not all of the stops"


async def test_a_runner_that_was_never_started_can_be_stopped(lab: Lab) -> None:
    @stage
    async def idle(item: Item) -> None: ...

    runner = Runner(Pipeline("p", idle).plan, lab.broker(Pipeline("p", idle)), RunOptions())

    async with stopping():
        await runner.stop()


@pytest.mark.parametrize("how", ["gone", "silent"])
async def test_a_stop_does_not_wait_for_a_redis_that_is_not_there(how: str, unique_namespace: str) -> None:
    begun = asyncio.Event()
    released = asyncio.Event()

    @stage(concurrency=1)
    async def slow(item: Item) -> None:
        begun.set()
        await released.wait()

    with RedisServer("bundled") as server:
        lab = Lab.at(server.url, unique_namespace)
        pipeline = Pipeline("p", slow)
        await lab.push(pipeline, slow, *items(3))
        runner = await started(lab, pipeline, grace_seconds=0.3)
        await begun.wait()
        if how == "gone":
            server.kill()
        else:
            os.kill(server.pid, signal.SIGSTOP)
        released.set()

        try:
            async with stopping():
                await runner.stop()
        finally:
            if how == "silent":
                os.kill(server.pid, signal.SIGCONT)
        await lab.close()
