"""Handler durations as recorded in Redis, compared with what the handlers measured."""

from __future__ import annotations

import asyncio
import statistics
import time

import pytest

import flowq
from flowq.inspector import Inspector
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab


async def test_the_durations_on_record_are_those_of_the_handlers(any_lab: Lab) -> None:
    took: list[float] = []

    @flowq.stage(concurrency=4)
    async def slow(item: Item) -> None:
        began = time.perf_counter()
        await asyncio.sleep(0.2 if item.n % 10 == 0 else 0.02)
        took.append(time.perf_counter() - began)

    @flowq.stage(batch=5, linger=0.01)
    async def gather(items: list[Item]) -> None:
        await asyncio.sleep(0.1)

    pipeline = flowq.Pipeline("tempo", slow, gather)
    await any_lab.push(pipeline, slow, *[Item(n=n) for n in range(40)])
    await any_lab.push(pipeline, gather, *[Item(n=n) for n in range(10)])
    inspector = Inspector(pipeline.plan, any_lab.broker(pipeline))
    async with any_lab.running(pipeline):

        async def both_are_told() -> bool:
            throughput = await inspector.throughput()
            return all(throughput[stage].p50_seconds for stage in ("slow", "gather"))

        await eventually(both_are_told)
        found = await inspector.throughput()

    assert found["slow"].p50_seconds == pytest.approx(statistics.median(took), rel=0.25)
    assert found["slow"].p95_seconds == pytest.approx(0.2, rel=0.25)
    assert found["gather"].p50_seconds == pytest.approx(0.1, rel=0.25)
