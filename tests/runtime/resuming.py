"""A process that runs a source that resumes, to be killed: python -m tests.runtime.resuming WHICH URL NAMESPACE DIR"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator

from pydantic import BaseModel

import flowq
from flowq import Pipeline, Source, SourceContext, source, stage
from flowq.sources import csv, ndjson

NUMBERS = 60_000


class Row(BaseModel):
    n: int


@stage(maxsize=1_000_000)
async def odd(row: Row) -> None: ...


@stage(maxsize=1_000_000)
async def all_of_them(row: Row) -> None: ...


@source(name="rows")
def counting(ctx: SourceContext[int]) -> Iterator[Row]:
    for n in range(ctx.cursor or 0, NUMBERS):
        yield Row(n=n)
        ctx.save(n + 1)


@source(name="rows")
async def counting_pairs(ctx: SourceContext[int]) -> AsyncIterator[Row]:
    """Two messages for each step, which enter together or not at all."""
    for n in range(ctx.cursor or 0, NUMBERS, 2):
        yield Row(n=n)
        await asyncio.sleep(0)
        yield Row(n=n + 1)
        ctx.save(n + 2)


def sources(folder: str) -> dict[str, Source[Row]]:
    return {
        "ndjson": ndjson(Row, folder),
        "csv": csv(Row, folder),
        "generator": counting,
        "async generator": counting_pairs,
    }


def pipeline(which: str, folder: str) -> Pipeline:
    """Every row to two stages: one step must cover both edges."""
    return Pipeline("resuming", sources(folder)[which] >> (odd, all_of_them))


if __name__ == "__main__":
    which, url, namespace, folder = sys.argv[1:]
    asyncio.run(
        flowq.run(pipeline(which, folder), redis=url, namespace=namespace, stages=["rows"], drain=False),
    )
