"""Sources: each value enters once, and an interrupted source does not count as finished."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

import flowq
from flowq import Pipeline, source, stage, use
from flowq.broker.edges import Edges
from flowq.broker.runs import Runs
from flowq.broker.workers import Workers
from flowq.errors import UsageError
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import Run, RunOptions
from flowq.runtime.sources.source_runner import SourceFailed
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab, Other
from tests.runtime.record import collecting


class Gone(Exception):
    """What the sources of these tests fail with."""


@source
def counted(up_to: int = 5) -> Iterator[Item]:
    yield from (Item(n=n) for n in range(up_to))


@source
async def counted_async(up_to: int = 5) -> AsyncIterator[Item]:
    for n in range(up_to):
        yield Item(n=n)


@pytest.mark.parametrize("numbers", [counted, counted_async], ids=["generator", "async generator"])
async def test_everything_a_source_gives_enters_once(numbers: flowq.Source[Item], any_lab: Lab) -> None:
    sink, got = collecting()

    summary = await any_lab.run(Pipeline("p", numbers >> sink), arguments={"up_to": "2500"})

    assert sorted(got) == list(range(2500))
    assert (summary.stages[numbers.name].out, summary.stages["sink"].ok) == (2500, 2500)


async def test_a_source_feeds_each_type_where_it_is_taken_and_copies_where_two_take_it(lab: Lab) -> None:
    got: list[str] = []

    @source
    def mixed() -> Iterator[Item | Other]:
        yield Item(n=1)
        yield Other(text="two")

    @stage
    async def numbers(item: Item) -> None:
        got.append(f"n{item.n}")

    @stage
    async def texts(other: Other) -> None:
        got.append(other.text)

    @stage
    async def everything(message: Item | Other) -> None:
        got.append(type(message).__name__)

    await lab.run(Pipeline("p", mixed >> (numbers | texts), mixed >> everything))

    assert sorted(got) == ["Item", "Other", "n1", "two"]


async def test_a_source_that_blocks_does_not_block_the_loop(lab: Lab) -> None:
    handled = threading.Event()

    @source
    def waiting() -> Iterator[Item]:
        yield Item(n=0)
        assert handled.wait(60)  # only true if the first message is handled while this thread waits
        yield Item(n=1)

    @stage
    async def sink(item: Item) -> None:
        handled.set()

    await lab.run(Pipeline("p", waiting >> sink))


async def test_the_values_of_a_slow_source_do_not_wait_for_each_other(lab: Lab) -> None:
    handled = asyncio.Event()

    @source
    async def slow() -> AsyncIterator[Item]:
        yield Item()
        await handled.wait()

    @stage
    async def sink(item: Item) -> None:
        handled.set()

    await lab.run(Pipeline("p", slow >> sink))


async def test_a_source_is_lent_its_resources(lab: Lab) -> None:
    got: list[str] = []

    @flowq.resource
    def prefix() -> str:
        return "with resource"

    @source
    def texts(prefix: str = use(prefix)) -> Iterator[Other]:
        yield Other(text=prefix)

    @stage
    async def sink(other: Other) -> None:
        got.append(other.text)

    await lab.run(Pipeline("p", texts >> sink))

    assert got == ["with resource"]


async def test_what_a_source_gives_twice_to_a_stage_that_deduplicates_is_handled_once(lab: Lab) -> None:
    got: list[int] = []

    @source
    def twice() -> Iterator[Item]:
        for _ in range(2):
            yield from (Item(n=n) for n in range(10))

    @stage(dedup="n")
    async def sink(item: Item) -> None:
        got.append(item.n)

    summary = await lab.run(Pipeline("p", twice >> sink))

    assert sorted(got) == list(range(10))
    assert summary.stages["sink"].duplicates == 10


# Arguments


async def test_an_argument_that_is_missing_or_does_not_fit_is_named_before_anything_runs(lab: Lab) -> None:
    @source
    def needing(url: str, depth: int) -> Iterator[Item]:
        yield Item()

    @stage
    async def sink(item: Item) -> None: ...

    pipeline = Pipeline("p", needing >> sink)
    with pytest.raises(UsageError, match='"url"'):
        await lab.run(pipeline)
    with pytest.raises(UsageError, match="depth=deep"):
        await lab.run(pipeline, arguments={"url": "x", "depth": "deep"})

    assert await Workers(lab.broker(pipeline)).registered() == {}


# Ends


@pytest.mark.parametrize("error", [Gone, SystemExit], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("is_async", [False, True], ids=["generator", "async generator"])
async def test_a_source_that_fails_ends_the_run_and_stays_open(
    error: type[BaseException], is_async: bool, lab: Lab
) -> None:
    sink, _ = collecting()

    def fails(n: int) -> None:
        if n == 3:
            raise error("the file ends here")

    @source
    async def failing_async() -> AsyncIterator[Item]:
        for n in range(5):
            fails(n)
            yield Item(n=n)

    @source
    def failing() -> Iterator[Item]:
        for n in range(5):
            fails(n)
            yield Item(n=n)

    numbers = failing_async if is_async else failing
    pipeline = Pipeline("p", numbers >> sink)
    with pytest.raises(SourceFailed, match="the file ends here"):
        await lab.run(pipeline)

    snapshot = await Run(pipeline.plan, lab.broker(pipeline)).snapshot()
    assert snapshot.open_sources == (numbers.name,)
    assert await Workers(lab.broker(pipeline)).registered() == {}


async def test_an_interrupted_source_restarts_and_a_finished_one_does_not(lab: Lab) -> None:
    begun: list[str] = []
    handled: list[int] = []
    released = asyncio.Event()

    @source
    async def short() -> AsyncIterator[Item]:
        begun.append("short")
        yield Item(n=1)

    @source
    async def endless() -> AsyncIterator[Item]:
        begun.append("endless")
        yield Item(n=2)
        await released.wait()

    @stage
    async def sink(item: Item) -> None:
        handled.append(item.n)

    pipeline = Pipeline("p", short >> sink, endless >> sink)
    broker, options = lab.broker(pipeline), RunOptions()
    run = Run(pipeline.plan, broker)
    runner = Runner(pipeline.plan, broker, options, sources=await run.begin(options))
    await runner.start()
    await eventually(lambda: sorted(handled) == [1, 2])
    await runner.stop()
    released.set()

    summary = await lab.run(pipeline)

    assert sorted(begun) == ["endless", "endless", "short"]
    assert sorted(handled) == [1, 2, 2]
    assert summary.run == run.id


async def test_a_run_that_is_started_twice_runs_its_source_once(lab: Lab) -> None:
    begun, handled = 0, list[int]()

    @source
    async def slow() -> AsyncIterator[Item]:
        nonlocal begun
        begun += 1
        for n in range(20):
            yield Item(n=n)
            await asyncio.sleep(0.01)

    @stage
    async def sink(item: Item) -> None:
        handled.append(item.n)

    pipeline = Pipeline("p", slow >> sink)
    options = RunOptions()
    runners: list[Runner] = []
    for _ in range(2):
        broker = lab.broker(pipeline)
        sources = await Run(pipeline.plan, broker).begin(options)
        assert sources == ["slow"]
        runners.append(Runner(pipeline.plan, broker, options, sources=sources))
    await asyncio.gather(*(runner.start() for runner in runners))
    await eventually(lambda: Runs(lab.broker(pipeline)).is_source_finished("slow", options.signature()))
    await eventually(lambda: len(handled) >= 20)
    await asyncio.gather(*(runner.stop() for runner in runners))

    assert begun == 1
    assert sorted(handled) == list(range(20))


async def test_a_source_goes_to_another_worker_when_its_own_is_gone_and_that_one_gives_no_more(lab: Lab) -> None:
    may_go_on = asyncio.Event()
    begun = 0

    @source
    async def twice() -> AsyncIterator[Item]:
        nonlocal begun
        begun += 1
        first = begun == 1
        yield Item(n=1)
        if first:
            await may_go_on.wait()
        yield Item(n=2)

    @stage
    async def sink(item: Item) -> None: ...

    pipeline = Pipeline("p", twice >> sink)
    broker, options = lab.broker(pipeline), RunOptions()
    runners = [Runner(pipeline.plan, lab.broker(pipeline), options, sources=["twice"]) for _ in range(2)]
    await Run(pipeline.plan, broker).begin(options)

    async def entered(n: int) -> bool:
        return (await lab.balance(pipeline))["sink"].entered == n

    await runners[0].start()
    await eventually(lambda: entered(1))
    await runners[1].start()
    await Workers(broker).record_death(runners[0].worker, "it seemed so")
    await eventually(lambda: entered(3))
    may_go_on.set()
    await eventually(lambda: Runs(broker).is_source_finished("twice", options.signature()))
    await asyncio.gather(*(runner.stop() for runner in runners))

    assert begun == 2
    assert (await lab.balance(pipeline))["sink"].ok == 3


async def test_an_interrupted_source_cleans_up_after_itself(lab: Lab) -> None:
    cleaned = False

    @source
    async def endless() -> AsyncIterator[Item]:
        nonlocal cleaned
        try:
            yield Item(n=1)
            await asyncio.Event().wait()
        finally:
            cleaned = True

    @stage
    async def sink(item: Item) -> None: ...

    pipeline = Pipeline("p", endless >> sink)
    runner = Runner(pipeline.plan, lab.broker(pipeline), RunOptions(), sources=["endless"])
    await runner.start()

    async def given() -> bool:
        return (await lab.balance(pipeline))["sink"].entered == 1

    await eventually(given)
    await runner.stop()

    assert cleaned


async def test_a_source_that_is_stopped_while_an_edge_is_full_is_not_finished(lab: Lab) -> None:
    release = asyncio.Event()

    @source
    def many() -> Iterator[Item]:
        yield from (Item(n=n) for n in range(100))

    @stage(maxsize=10, concurrency=1)
    async def sink(item: Item) -> None:
        await release.wait()

    pipeline = Pipeline("p", many >> sink)
    broker, options = lab.broker(pipeline), RunOptions(grace_seconds=0.05)
    run = Run(pipeline.plan, broker)
    runner = Runner(pipeline.plan, broker, options, sources=await run.begin(options))
    await runner.start()

    async def is_full() -> bool:
        return (await Edges(broker).outstanding(["many>sink"]))["many>sink"] >= 10

    await eventually(is_full)
    await runner.stop()

    snapshot = await run.snapshot()
    assert snapshot.open_sources == ("many",)
    assert snapshot.outstanding < 30
    release.set()
    assert (await lab.run(pipeline)).stages["sink"].ok >= 100
