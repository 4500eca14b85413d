"""Stopping handlers that do not end: they are interrupted or abandoned, and their messages handed back in time."""

from __future__ import annotations

import asyncio
import threading

from flowq import Context, Pipeline, stage
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab, items
from tests.runtime.record import collecting
from tests.runtime.stopping import FOREVER_SECONDS, started, stopping


async def test_what_does_not_finish_in_time_is_interrupted_and_handed_back_uncounted(lab: Lab) -> None:
    attempts: list[int] = []
    ended: list[str] = []

    @stage
    async def slow(item: Item, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) == 1:
            try:
                await asyncio.sleep(FOREVER_SECONDS)
            finally:
                ended.append("cleaned up")

    pipeline = Pipeline("p", slow)
    await lab.push(pipeline, slow, Item())
    runner = await started(lab, pipeline, grace_seconds=0.1)
    await eventually(lambda: attempts)

    async with stopping():
        await runner.stop()

    assert ended == ["cleaned up"]
    await lab.run(pipeline)
    assert attempts == [1, 1]


async def test_a_handler_that_will_not_be_cancelled_does_not_hold_up_the_stop(lab: Lab) -> None:
    stubborn_runs = 0
    free = asyncio.Event()

    @stage(concurrency=1)
    async def stubborn(item: Item) -> None:
        nonlocal stubborn_runs
        stubborn_runs += 1
        while not free.is_set():
            try:
                await free.wait()
            except BaseException:  # noqa: BLE001
                continue

    pipeline = Pipeline("p", stubborn)
    await lab.push(pipeline, stubborn, Item(n=1))
    runner = await started(lab, pipeline, grace_seconds=0.1)
    await eventually(lambda: stubborn_runs == 1)
    try:
        async with stopping():
            await runner.stop()
        balance = (await lab.balance(pipeline))["stubborn"]
    finally:
        free.set()

    assert (balance.waiting, balance.running) == (1, 0)
    await lab.run(pipeline)
    assert stubborn_runs == 2


async def test_a_thread_that_cannot_be_stopped_does_not_hold_up_the_stop(lab: Lab) -> None:
    begun, free = threading.Event(), threading.Event()

    @stage(concurrency=1)
    def blocking(item: Item) -> None:
        begun.set()
        free.wait(FOREVER_SECONDS)

    pipeline = Pipeline("p", blocking)
    await lab.push(pipeline, blocking, Item())
    runner = await started(lab, pipeline, grace_seconds=0.1)
    await eventually(begun.is_set)

    try:
        async with stopping():
            await runner.stop()
        balance = (await lab.balance(pipeline))["blocking"]
    finally:
        free.set()

    assert (balance.waiting, balance.running) == (1, 0)


async def test_a_late_success_of_a_handler_that_was_given_up_changes_nothing(lab: Lab) -> None:
    sink, got = collecting()
    free = asyncio.Event()

    @stage(concurrency=1)
    async def stubborn(item: Item) -> Item:
        while not free.is_set():
            try:
                await free.wait()
            except BaseException:  # noqa: BLE001
                continue
        return item

    pipeline = Pipeline("p", stubborn >> sink)
    await lab.push(pipeline, stubborn, Item(n=1))
    runner = await started(lab, pipeline, grace_seconds=0.05)
    await eventually(lambda: not runner.is_idle)
    try:
        await runner.stop()
    finally:
        free.set()

    await lab.run(pipeline)

    assert got == [1]


async def test_a_hurry_ends_the_grace_at_once(lab: Lab) -> None:
    begun = asyncio.Event()

    @stage
    async def slow(item: Item) -> None:
        begun.set()
        await asyncio.sleep(FOREVER_SECONDS)

    pipeline = Pipeline("p", slow)
    await lab.push(pipeline, slow, *items(5))
    runner = await started(lab, pipeline, grace_seconds=FOREVER_SECONDS)
    await begun.wait()
    hurry = asyncio.Event()

    stop = asyncio.create_task(runner.stop(hurry))
    done_early, _ = await asyncio.wait([stop], timeout=0.1)
    assert not done_early
    hurry.set()
    async with stopping():
        await stop

    balance = (await lab.balance(pipeline))["slow"]
    assert (balance.waiting, balance.running) == (5, 0)


async def test_a_hurry_does_not_wait_for_a_handler_that_will_not_be_cancelled(lab: Lab) -> None:
    begun, free = asyncio.Event(), asyncio.Event()

    @stage
    async def stubborn(item: Item) -> None:
        begun.set()
        while not free.is_set():
            try:
                await free.wait()
            except BaseException:  # noqa: BLE001
                continue

    pipeline = Pipeline("p", stubborn)
    await lab.push(pipeline, stubborn, Item())
    runner = await started(lab, pipeline, grace_seconds=FOREVER_SECONDS)
    await begun.wait()
    hurry = asyncio.Event()
    hurry.set()

    try:
        async with stopping():
            await runner.stop(hurry)
    finally:
        free.set()

    assert (await lab.balance(pipeline))["stubborn"].waiting == 1


async def test_a_batch_that_is_interrupted_while_it_is_taken_apart_starts_no_more_parts(lab: Lab) -> None:
    calls: list[int] = []
    hanging = asyncio.Event()

    @stage(batch=4, linger=0.05, concurrency=1)
    async def store(batch: list[Item]) -> None:
        calls.append(len(batch))
        if len(batch) == 4:
            raise ConnectionError
        hanging.set()
        await asyncio.sleep(FOREVER_SECONDS)

    pipeline = Pipeline("p", store)
    await lab.push(pipeline, store, *items(4))
    runner = await started(lab, pipeline, grace_seconds=0.05)
    await hanging.wait()

    async with stopping():
        await runner.stop()

    assert calls == [4, 2]
    balance = (await lab.balance(pipeline))["store"]
    assert (balance.waiting, balance.running) == (4, 0)


async def test_a_batch_whose_handler_fails_when_it_is_interrupted_is_handed_back(lab: Lab) -> None:
    calls: list[int] = []

    @stage(batch=4, linger=0.05)
    async def slow(items: list[Item]) -> None:
        calls.append(len(items))
        if len(calls) == 1:
            try:
                await asyncio.sleep(FOREVER_SECONDS)
            except asyncio.CancelledError:
                raise ConnectionError("the database has gone away") from None

    pipeline = Pipeline("p", slow)
    await lab.push(pipeline, slow, *items(4))
    runner = await started(lab, pipeline, grace_seconds=0.1)
    await eventually(lambda: calls)

    async with stopping():
        await runner.stop()

    balance = (await lab.balance(pipeline))["slow"]
    assert (balance.waiting, balance.running, balance.delayed) == (4, 0, 0)
    await lab.run(pipeline)
    assert sum(calls) == 8
