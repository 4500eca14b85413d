"""Handler durations as recorded in Redis, compared with what the handlers took."""

from __future__ import annotations

import asyncio

import pytest

from flowq import Pipeline, stage
from tests.runtime.kit import Kit
from tests.runtime.lab import Item, items


async def test_the_durations_on_record_are_those_of_the_handlers(kit: Kit) -> None:
    @stage(concurrency=4)
    async def slow(item: Item) -> None:
        await asyncio.sleep(2 if item.n % 10 == 0 else 0.2)

    @stage(batch=5, linger="1s")
    async def gather(items: list[Item]) -> None:
        await asyncio.sleep(1)

    pipeline = Pipeline("tempo", slow, gather)
    async with kit(pipeline) as h:
        await h.feed(slow, *items(40))
        await h.feed(gather, *items(10))
        await h.drain()
        await h.advance(seconds=1)  # by when it is recorded
        found = h.inspect(lambda inspector: inspector.throughput())

    # Counted in buckets, each 19 % wider than the one before.
    assert found["slow"].p50_seconds == pytest.approx(0.2, rel=0.1)
    assert found["slow"].p95_seconds == pytest.approx(2, rel=0.1)
    assert found["gather"].p50_seconds == pytest.approx(1, rel=0.1)
