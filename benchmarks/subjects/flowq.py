"""flowq pipelines, used as any program would use them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import flowq
from benchmarks.item import Item, Link, links_of
from benchmarks.tally import tally
from flowq import Inspector, Pipeline, Publisher, stage
from flowq.broker.open import open_broker
from flowq.settings import Settings

NAPS_AT_ONCE, NAP_SECONDS = 100, 0.01


@stage
async def absorb(item: Item) -> None:
    tally.hit()


@stage
def absorb_in_thread(item: Item) -> None:
    tally.hit()


@stage(concurrency=NAPS_AT_ONCE)
async def nap(item: Item) -> None:
    await asyncio.sleep(NAP_SECONDS)
    tally.hit()


@stage
async def receive(item: Item) -> None:
    tally.arrive(item.sent_ns)


@stage
async def relay(item: Item) -> Item:
    tally.start()
    return item


@stage(inline=True)
def expand(page: Item) -> Iterator[Link]:
    tally.hit()
    yield from links_of(page)


@stage(dedup="url", maxsize=100_000_000)
async def visit(link: Link) -> None:
    tally.hit()


@stage
async def link_to(item: Item) -> Link:
    tally.hit()
    return Link(url=item.url)


@stage
async def swallow(body: bytes) -> None:
    tally.hit()


def chain_of(name: str, n: int) -> Pipeline:
    """Create a pipeline of `n` stages in a row; the last one counts."""
    flow: Any = relay.options(name="relay1")
    for number in range(2, n):
        flow = flow >> relay.options(name=f"relay{number}")
    return Pipeline(name, flow >> absorb)


PIPELINES: dict[str, Pipeline] = {
    "drain": Pipeline("drain", absorb),
    "thread": Pipeline("thread", absorb_in_thread),
    "nap": Pipeline("nap", nap),
    "latency": Pipeline("latency", receive),
    "chain": chain_of("chain", 3),
    "chain10": chain_of("chain10", 10),
    "chain50": chain_of("chain50", 50),
    "fan_out": Pipeline("fan_out", expand >> visit),
    "links": Pipeline("links", link_to >> visit),
    "bytes": Pipeline("bytes", swallow),
}

_ONLY_FIRST = ("fan_out", "links")
"""Tasks whose first stage runs alone: its outputs stay on their edge."""


async def work(task: str, url: str) -> None:
    pipeline = PIPELINES[task]
    stages = [entry(task)] if task in _ONLY_FIRST else []
    await flowq.run(pipeline, redis=url, stages=stages, drain=False)


def entry(task: str) -> str:
    """The stage to push to."""
    return PIPELINES[task].plan.consumers[0].name


async def publish(task: str, url: str, messages: Iterable[Any], *, delay: float | str = 0) -> None:
    async with Publisher(PIPELINES[task], redis=url) as publisher:
        await publisher.push_many(entry(task), messages, delay=delay)


@asynccontextmanager
async def sender(task: str, url: str) -> AsyncGenerator[Callable[[Item], Awaitable[Any]]]:
    """Sends one message at a time."""
    async with Publisher(PIPELINES[task], redis=url) as publisher:
        yield lambda message: publisher.push(entry(task), message)


async def outstanding(task: str, url: str) -> int:
    """The number of unsettled messages of the stages that run."""
    pipeline = PIPELINES[task]
    async with open_broker(pipeline.name, Settings.of_program(redis=url)) as broker:
        balance = await Inspector(pipeline.plan, broker).balance()
    stages = [entry(task)] if task in _ONLY_FIRST else list(balance)
    return sum(balance[stage].outstanding for stage in stages)
