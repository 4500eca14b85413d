"""Back-pressure: a backlog stops its producers, memory stays flat, and no cycle blocks itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from flowq import Pipeline, QueueFull, Retry, source, stage
from flowq.broker.edges import Edges
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import Run, RunOptions
from tests.eventually import eventually
from tests.runtime.kit import Kit
from tests.runtime.lab import Item, Lab, Other, items

KILOBYTE = "x" * 1000


async def test_a_sink_that_is_down_stops_the_source_and_loses_nothing(kit: Kit) -> None:
    outstanding: list[list[int]] = []

    @source
    def numbers() -> Iterator[Item]:
        yield from items(300)

    @stage(maxsize=50)
    async def tidy(item: Item) -> Item:
        return item

    @stage(maxsize=50, retry=Retry(attempts=1000, base="1s", max="1s", jitter=False))
    async def store(item: Item) -> None:
        if h.now < is_up_at:
            if item.n == 0:
                outstanding.append([h.balance()[name].outstanding for name in ("tidy", "store")])
            raise ConnectionError("the database is down")

    async with kit(Pipeline("p", numbers >> tidy >> store)) as h:
        is_up_at = h.now + timedelta(seconds=5)
        await h.run(numbers)
        await h.drain()

        assert len(outstanding) == 5
        assert outstanding[-1] == outstanding[-2]
        assert all(40 <= n <= 2 * 50 + 10 for n in outstanding[-1])
        h.expect(store).any_order(items(300))


async def test_an_edge_holds_no_more_memory_than_it_may(lab: Lab) -> None:
    limit = 300_000
    let_go = asyncio.Event()

    @source
    def texts() -> Iterator[Other]:
        for n in range(3000):
            yield Other(text=f"{n} {KILOBYTE}")

    @stage(maxsize=1_000_000, maxsize_bytes=limit)
    async def grow(other: Other) -> list[Other]:
        return [other] * 3

    @stage(maxsize=1_000_000, maxsize_bytes=limit, concurrency=1)
    async def store(other: Other) -> None:
        await let_go.wait()

    pipeline = Pipeline("p", texts >> grow >> store)
    broker, edges = lab.broker(pipeline), ["texts>grow", "grow>store"]
    options = RunOptions()
    run = Run(pipeline.plan, broker)
    runner = Runner(pipeline.plan, broker, options, sources=await run.begin(options))
    await runner.start()
    try:

        async def taken() -> tuple[int, ...]:
            return tuple((await Edges(broker).memory(edges)).values())

        await eventually(lambda: _all_at_least(taken, limit * 4 // 5))
        await eventually(lambda: _stands_still(taken))
        assert max(await taken()) < 2 * limit  # all of it would be thirty times as much
        let_go.set()
        await eventually(lambda: _ok(lab, pipeline, "store", 9000))
    finally:
        await runner.stop()


Look = Callable[[], Awaitable[tuple[int, ...]]]


async def _all_at_least(look: Look, n_bytes: int) -> bool:
    return min(await look()) >= n_bytes


async def _stands_still(look: Look) -> bool:
    before = await look()
    await asyncio.sleep(0.5)
    return await look() == before


async def _ok(lab: Lab, pipeline: Pipeline, stage: str, n: int) -> bool:
    return (await lab.balance(pipeline))[stage].ok == n


async def test_a_push_to_an_edge_that_takes_too_much_memory_waits_or_is_refused(lab: Lab) -> None:
    @stage(maxsize_bytes=100_000)
    async def store(other: Other) -> None: ...

    pipeline = Pipeline("p", store)
    with pytest.raises(QueueFull, match="maxsize_bytes of 100,000"):
        await lab.push(pipeline, store, *[Other(text=KILOBYTE)] * 1000, wait=False)
    pushed = (await lab.balance(pipeline))["store"].outstanding
    assert 80 < pushed < 120

    waiting = asyncio.create_task(lab.push(pipeline, store, Other(text="waited")))
    async with lab.running(pipeline):
        await waiting
        await eventually(lambda: _ok(lab, pipeline, "store", pushed + 1))


async def test_one_message_larger_than_an_edge_may_hold_goes_through(lab: Lab) -> None:
    @stage
    async def grow(item: Item) -> Other:
        return Other(text=KILOBYTE * 100)

    @stage(maxsize_bytes=1000)
    async def store(other: Other) -> None: ...

    summary = await lab.run(Pipeline("p", grow >> store), *(Item(n=n) for n in range(20)))

    assert summary.stages["store"].ok == 20


async def test_a_crawl_whose_frontier_is_larger_than_every_bound_finishes(kit: Kit) -> None:
    pages = 100

    @stage(dedup="n", maxsize=5, maxsize_bytes=2_000, concurrency=2)
    async def fetch(item: Item) -> Item:
        return item

    @stage(maxsize=5, maxsize_bytes=2_000, concurrency=2)
    async def parse(page: Item) -> list[Item | Other]:
        links = [Item(n=n) for n in range(20 * page.n + 1, 20 * page.n + 21) if n < pages]
        return [Other(text=str(page.n)), *links]

    @stage(maxsize=5, maxsize_bytes=2_000, concurrency=1)
    async def store(doc: Other) -> None: ...

    async with kit(Pipeline("p", fetch >> parse >> (store | fetch))) as h:
        await h.feed(fetch, Item(n=0))
        await h.drain()

        h.expect(store).any_order([Other(text=str(n)) for n in range(pages)])
        assert h.balance()["fetch"].ok == pages


@source
def from_outside() -> Iterator[Item]:
    yield from items(400)


@stage(concurrency=4)
async def after_the_handler(item: Item) -> Item:
    return item


@stage(concurrency=4, ack="first")
async def before_the_handler(item: Item) -> Item:
    return item


@pytest.mark.parametrize(
    "producer", [from_outside, after_the_handler, before_the_handler], ids=lambda producer: producer.name
)
async def test_a_slow_sink_stops_its_producer_near_the_size_of_their_edge(producer: Any, lab: Lab) -> None:
    lengths: list[int] = []
    has_stopped = asyncio.Event()

    @stage(concurrency=4, maxsize=100)
    async def slow(item: Item) -> None:
        await has_stopped.wait()

    pipeline = Pipeline("p", producer >> slow)
    broker, edge = lab.broker(pipeline), f"{producer.name}>slow"

    async def watch() -> None:
        while True:
            lengths.append((await Edges(broker).outstanding([edge]))[edge])
            if lengths[-1] > 80 and lengths[-50:] == [lengths[-1]] * 50:
                has_stopped.set()
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    summary = await lab.run(pipeline, *([] if producer is from_outside else items(400)))
    watching.cancel()

    assert summary.stages["slow"].ok == 400
    assert 80 < max(lengths) <= 2 * 100 + 4


async def test_a_feedback_edge_is_never_too_full_to_continue(lab: Lab) -> None:
    handled: list[int] = []

    @stage(dedup="n", maxsize=5, concurrency=2)
    async def crawl(item: Item) -> list[Item]:
        handled.append(item.n)
        return [Item(n=child) for child in (2 * item.n, 2 * item.n + 1) if child < 300]

    await lab.run(Pipeline("p", crawl >> crawl), Item(n=1))

    assert sorted(handled) == list(range(1, 300))
