"""A seed decides everything: the same events at the same times, in this process and in any other."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from pydantic import BaseModel

import flowq
from flowq import testing
from flowq.testing.faults import Crash, Disconnect, Duplicate, LostReply, Reorder, Restart, Slow, Stall

ROOT = Path(__file__).parents[2]
FAULTS = (
    Crash("fetch", before="settle", nth=3),
    Crash("parse", after="handler", nth=5),
    LostReply("settle", nth=4),
    Duplicate("settle", nth=6),
    Reorder(nth=7),
    Disconnect(nth=9),
    Stall(3, nth=11),
    Slow("fetch", 5, nth=4),
    Restart(nth=13),
)


delays: list[float] = []  # of the next calls of `parse`, in real seconds


class Page(BaseModel):
    n: int


@flowq.stage(retry=flowq.Retry(4, base=10), concurrency=3)
async def fetch(page: Page, context: flowq.Context) -> Page:
    await asyncio.sleep(0.01)
    if page.n % 3 == 0 and context.attempt < 3:
        raise ValueError("again")
    return page


@flowq.stage(place="spread")
def parse(page: Page) -> list[Page]:
    """In a thread, which takes as long as the test wants."""
    time.sleep(delays.pop() if delays else 0.0)
    return [page, Page(n=page.n + 100)]


@flowq.stage(batch=5, linger=0.5)
async def store(pages: list[Page]) -> None:
    await asyncio.sleep(0.02)


PIPELINE = flowq.Pipeline("pages", fetch >> parse >> store)
DIVIDED = flowq.Pipeline("pages", fetch >> parse >> store, shards=4)


async def trace_of(seed: int, pipeline: flowq.Pipeline = PIPELINE, n_pages: int = 12) -> str:
    async with testing.harness(pipeline, seed=seed, faults=FAULTS, workers=2) as h:
        await h.feed(fetch, *[Page(n=n) for n in range(n_pages)])
        await h.drain()
        return str(h.trace)


async def test_the_same_seed_leads_to_the_same_events_and_another_seed_to_others() -> None:
    first = await trace_of(1)

    assert "crash" in first
    assert await trace_of(1) == first
    assert await trace_of(2) != first


async def test_the_same_seed_leads_to_the_same_events_also_between_shards() -> None:
    """Objects of each run have other addresses, by which a set of them is ordered."""
    first = await trace_of(1, DIVIDED, n_pages=60)

    assert "apply" in first
    assert await trace_of(1, DIVIDED, n_pages=60) == first


async def test_how_long_a_thread_takes_does_not_matter() -> None:
    quick = await trace_of(1)

    delays.extend([0.05, 0.0, 0.02])

    assert await trace_of(1) == quick
    assert delays == []


def test_the_same_seed_leads_to_the_same_events_in_another_process() -> None:
    program = "import asyncio; from tests.testing.test_determinism import trace_of; print(asyncio.run(trace_of(5)))"

    def elsewhere(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", program]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    assert elsewhere("1") == elsewhere("2")
