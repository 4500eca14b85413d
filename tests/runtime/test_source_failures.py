"""However a source ends, the run ends with its error, and its earlier messages are handled first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import flowq
from flowq import Pipeline, source, stage
from flowq.errors import FlowqError
from flowq.runtime.lanes.tasks import TaskCancelled
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import Run, RunOptions
from flowq.runtime.sources.source_runner import SourceFailed
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab

ENOUGH_SECONDS = 60.0


def collecting(got: list[int]) -> Any:
    @stage
    async def sink(item: Item) -> None:
        await asyncio.sleep(0)
        got.append(item.n)

    return sink


async def cancelled_by_itself() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


async def cancelled_from_outside_of_flowq() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def pressed_ctrl_c() -> None:
    raise KeyboardInterrupt


async def left() -> None:
    raise GeneratorExit


async def quit_the_program() -> None:
    raise SystemExit(3)


ENDS = [cancelled_by_itself, cancelled_from_outside_of_flowq, pressed_ctrl_c, left, quit_the_program]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_whatever_an_async_source_raises_ends_the_run_as_its_failure(end: Any, lab: Lab) -> None:
    got: list[int] = []

    @source
    async def feed() -> AsyncIterator[Item]:
        yield Item(n=1)
        await end()
        yield Item(n=2)

    with pytest.raises(SourceFailed, match='source "feed" failed'):
        await lab.run(Pipeline("p", feed >> collecting(got)))

    assert got == [1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, SystemExit, asyncio.CancelledError])
async def test_whatever_a_source_on_a_thread_raises_ends_the_run_as_its_failure(
    error: type[BaseException], lab: Lab
) -> None:
    got: list[int] = []

    @source
    def feed() -> Iterator[Item]:
        yield Item(n=1)
        raise error

    with pytest.raises(SourceFailed, match='source "feed" failed'):
        await lab.run(Pipeline("p", feed >> collecting(got)))

    assert got == [1]


async def test_a_source_that_fails_at_once_keeps_nothing_from_being_handled(any_lab: Lab) -> None:
    """Neither what it gave before, nor what other sources give after it has failed."""
    got: list[int] = []
    has_failed = threading.Event()

    @source
    def failing() -> Iterator[Item]:
        yield from (Item(n=n) for n in range(3))
        has_failed.set()
        raise ValueError("at once")

    @source
    def other() -> Iterator[Item]:
        assert has_failed.wait(ENOUGH_SECONDS)
        yield from (Item(n=n) for n in range(3, 3000))

    sink = collecting(got)
    with pytest.raises(SourceFailed, match="at once"):
        await any_lab.run(Pipeline("p", failing >> sink, other >> sink))

    assert sorted(got) == list(range(3000))


async def test_a_source_that_runs_without_any_other_stage_ends_the_run_with_its_failure(any_lab: Lab) -> None:
    @source
    async def numbers() -> AsyncIterator[Item]:
        yield Item(n=1)
        raise ValueError("no more")

    pipeline = Pipeline("p", numbers >> collecting([]))
    async with asyncio.timeout(ENOUGH_SECONDS):
        with pytest.raises(SourceFailed, match="no more"):
            await any_lab.run(pipeline, stages=["numbers"])


async def test_a_run_that_stays_ends_soon_after_a_source_has_failed(lab: Lab) -> None:
    got: list[int] = []

    @source
    async def failing() -> AsyncIterator[Item]:
        yield Item(n=1)
        raise ValueError("at once")

    @source
    async def endless() -> AsyncIterator[Item]:
        await asyncio.Event().wait()
        yield Item(n=2)

    sink = collecting(got)
    pipeline = Pipeline("p", failing >> sink, endless >> sink)
    options = RunOptions(drains=False)
    broker = lab.broker(pipeline)
    runner = Runner(pipeline.plan, broker, options, sources=await Run(pipeline.plan, broker).begin(options))
    await runner.start()
    try:
        with pytest.raises(SourceFailed, match="at once"):
            async with asyncio.timeout(ENOUGH_SECONDS):
                await runner.ended
    finally:
        await runner.stop()

    assert got == [1]


async def test_a_publish_that_is_refused_is_noticed_while_the_source_waits_for_its_next_value(lab: Lab) -> None:
    is_noticed = threading.Event()

    @source
    async def waiting() -> AsyncIterator[Item]:
        yield Item(n=1)
        await asyncio.Event().wait()

    @source(name="waiting")
    def waiting_on_a_thread() -> Iterator[Item]:
        yield Item(n=1)
        assert is_noticed.wait(ENOUGH_SECONDS)

    for numbers in (waiting, waiting_on_a_thread):
        pipeline = Pipeline("p", numbers >> collecting([]))
        broker = lab.broker(pipeline)
        await lab.command(b"SET", broker.keys.edge("waiting>sink"), b"not a stream")
        runner = Runner(pipeline.plan, broker, RunOptions(stages=("waiting",)), sources=["waiting"])
        await runner.start()
        try:
            with pytest.raises(FlowqError, match=r"WRONGTYPE|wrong kind"):
                async with asyncio.timeout(ENOUGH_SECONDS):
                    await runner.ended
        finally:
            is_noticed.set()
            await runner.stop()


async def test_code_that_cancels_all_tasks_ends_the_run(lab: Lab) -> None:
    @source
    async def reckless() -> AsyncIterator[Item]:
        yield Item(n=1)
        me = asyncio.current_task()
        for task in asyncio.all_tasks():
            if task is not me and task.get_name().startswith("source "):
                task.cancel()
        await asyncio.Event().wait()

    with pytest.raises(TaskCancelled, match="was cancelled by code in this process"):
        await lab.run(Pipeline("p", reckless >> collecting([])))


# Threads and stopping


async def test_more_sources_than_the_default_executor_has_threads_all_run_at_once(lab: Lab) -> None:
    n = 40  # ThreadPoolExecutor has 32 at most
    barrier = threading.Barrier(n)

    def meeting(number: int) -> flowq.Source[Item]:
        @source(name=f"meeting_{number}")
        def meet() -> Iterator[Item]:
            barrier.wait(ENOUGH_SECONDS)
            yield Item(n=number)

        return meet

    got: list[int] = []
    sink = collecting(got)
    await lab.run(Pipeline("p", *(meeting(number) >> sink for number in range(n))))

    assert sorted(got) == list(range(n))


@pytest.mark.parametrize("is_async", [False, True], ids=["generator", "async generator"])
async def test_a_source_is_closed_when_the_run_is_stopped_while_an_edge_is_full(is_async: bool, lab: Lab) -> None:
    closed = threading.Event()

    @source
    def endless() -> Iterator[Item]:
        try:
            while True:
                yield Item()
        finally:
            closed.set()

    @source(name="endless")
    async def endless_async() -> AsyncIterator[Item]:
        try:
            while True:
                yield Item()
        finally:
            closed.set()

    @stage(maxsize=10)
    async def sink(item: Item) -> None:
        await asyncio.Event().wait()

    pipeline = Pipeline("p", (endless_async if is_async else endless) >> sink)
    runner = Runner(pipeline.plan, lab.broker(pipeline), RunOptions(grace_seconds=0.1), sources=["endless"])
    await runner.start()

    async def is_full() -> bool:
        return (await lab.balance(pipeline))["sink"].entered >= 10

    await eventually(is_full)
    await runner.stop()

    assert closed.is_set()


async def test_a_source_that_will_not_be_cancelled_does_not_keep_the_run_from_stopping(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    released = asyncio.Event()
    was_asked = asyncio.Event()

    @source
    async def stubborn() -> AsyncIterator[Item]:
        yield Item(n=1)
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                was_asked.set()

    pipeline = Pipeline("p", stubborn >> collecting([]))
    runner = Runner(pipeline.plan, lab.broker(pipeline), RunOptions(grace_seconds=0.1), sources=["stubborn"])
    await runner.start()

    async def given() -> bool:
        return (await lab.balance(pipeline))["sink"].ok == 1

    await eventually(given)
    async with asyncio.timeout(ENOUGH_SECONDS):
        await runner.stop()
    released.set()

    assert was_asked.is_set()
    assert "source stubborn does not end, and is abandoned" in caplog.text
