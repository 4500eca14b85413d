"""Back-pressure: what cannot be worked off stops what is before it, memory stays flat, and no cycle locks itself up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from flowq import Pipeline, Retry, source, stage
from flowq.runtime.run import Run, RunOptions
from flowq.runtime.runner import Runner
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab, Other


async def test_a_sink_that_is_down_stops_the_source_and_loses_nothing(lab: Lab) -> None:
    given, stored = 0, set[int]()
    is_down = True

    @source
    def numbers() -> Iterator[Item]:
        nonlocal given
        for n in range(2000):
            given += 1
            yield Item(n=n)

    @stage(maxsize=50)
    async def tidy(item: Item) -> Item:
        return item

    @stage(maxsize=50, retry=Retry(attempts=1000, base=0.05, max=0.05))
    async def store(item: Item) -> None:
        if is_down:
            raise ConnectionError("the database is down")
        stored.add(item.n)

    pipeline = Pipeline("p", numbers >> tidy >> store)
    broker, edges = lab.broker(pipeline), ["numbers>tidy", "tidy>store"]
    run = Run(pipeline.plan, broker)
    options = RunOptions()
    runner = Runner(pipeline.plan, broker, options, sources=await run.begin(options))
    await runner.start()
    try:
        await eventually(lambda: stands_still(lambda: given))
        outstanding = await broker.outstanding(edges)
        assert all(40 <= n <= 2 * 50 + 10 for n in outstanding.values()), outstanding
        assert not stored

        is_down = False
        await eventually(lambda: len(stored) == 2000, seconds=10)
    finally:
        await runner.stop()


async def stands_still(number: object) -> bool:
    assert callable(number)
    before = number()
    await asyncio.sleep(0.5)
    return bool(before) and number() == before


async def test_a_crawl_whose_frontier_is_larger_than_every_bound_finishes(any_lab: Lab) -> None:
    pages = 200
    stored: set[int] = set()

    @stage(dedup="n", maxsize=5, concurrency=2)
    async def fetch(item: Item) -> Item:
        return item

    @stage(maxsize=5, concurrency=2)
    async def parse(page: Item) -> list[Item | Other]:
        links = [Item(n=n) for n in range(20 * page.n + 1, 20 * page.n + 21) if n < pages]
        return [Other(text=str(page.n)), *links]

    @stage(maxsize=5, concurrency=1)
    async def store(doc: Other) -> None:
        stored.add(int(doc.text))

    summary = await any_lab.run(Pipeline("p", fetch >> parse >> (store | fetch)), Item(n=0))

    assert stored == set(range(pages))
    assert summary.stages["fetch"].ok == pages
