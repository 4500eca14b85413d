"""A pipeline with several shards, run by programs: everything arrives in its shard, and the run ends when all is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import flowq
from tests.runtime.lab import Lab


async def test_a_pipeline_of_four_shards_drains_exactly(lab: Lab) -> None:
    seen = Counter[int]()

    @flowq.source
    async def numbers(up_to: int) -> AsyncIterator[int]:
        for number in range(up_to):
            yield number

    @flowq.stage(dedup=str)
    async def halve(number: int) -> str | None:
        return str(number // 2) if number else None

    @flowq.stage(dedup=str)
    async def show(half: str) -> None:
        seen[int(half)] += 1

    pipeline = flowq.Pipeline("shards", numbers >> halve >> show, shards=4)

    summary = await flowq.run(pipeline, redis=lab.dialer.url, namespace=lab.namespace, arguments={"up_to": 200})

    assert summary.drained
    assert seen == Counter(range(100))
    assert summary.stages["show"].entered == 100
    assert summary.stages["show"].duplicates == 99
    assert all(balance.adds_up for balance in summary.stages.values())
