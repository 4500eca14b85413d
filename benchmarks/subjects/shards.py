"""A crawl of a made-up web in which nothing crosses to another shard, and the same crawl in which most of it does.

Four stages as in a real one: links are deduplicated, pages fetched by host, parsed, and stored by URL. A page has two
and a half links, one of which is new. Both crawls handle the same messages, and differ in where these live. `hop` is
two stages of which the second lives elsewhere.

A task is one of "stays", "crosses" and "hop", the number of shards, and the stages that run: "crosses 6 fetch,parse".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

import flowq
from benchmarks.item import Item
from benchmarks.tally import tally
from flowq import Inspector, Pipeline, Publisher, stage
from flowq.broker.inspection.merging.channels import channels_reading
from flowq.broker.open import open_broker
from flowq.broker.shards.waves import in_transit
from flowq.settings import Settings

HOSTS = 12_000
GENERATION = 1_000_000
_MOST = 10_000_000
STAGES = ("discover", "fetch", "parse", "store")


class Link(BaseModel):
    url: str
    host: str
    number: int


class Page(BaseModel):
    url: str
    host: str
    number: int
    body: str


class Row(BaseModel):
    url: str
    host: str
    title: str


def links(n: int, hosts: int) -> Iterator[Link]:
    """The first `n` links of each of so many hosts."""
    return (_link(f"host{host}", number) for number in range(n) for host in range(hosts))


def _link(host: str, number: int) -> Link:
    return Link(url=f"https://{host}.example/catalogue/{number}.html", host=host, number=number)


def crawl_of(shards: int, *, crosses: bool) -> Pipeline:
    """The crawl. Page n has links to page n + GENERATION, to page n // 2, and every second one to page 0."""

    @stage(dedup="url", maxsize=_MOST)
    async def discover(link: Link) -> Link:
        tally.hit()
        return link

    @stage(place="host", maxsize=_MOST)
    async def fetch(link: Link) -> Page:
        tally.hit()
        return Page(**dict(link), body="x" * 100)

    @stage(inline=True, maxsize=_MOST)
    def parse(page: Page) -> Iterator[Link | Row]:
        tally.hit()
        yield Row(url=page.url, host=page.host, title=page.body[:40])
        yield _link(page.host, page.number + GENERATION)
        yield _link(page.host, page.number // 2)
        if page.number % 2:
            yield _link(page.host, 0)

    @stage(place="url" if crosses else "host", maxsize=_MOST)
    async def store(row: Row) -> None:
        tally.hit()

    found = discover if crosses else discover.options(place="host")
    return Pipeline("crawl", found >> fetch >> parse >> (store | found), shards=shards)


def hop_of(shards: int) -> Pipeline:
    """Two stages; a message has another key at the second."""

    @stage(place="id")
    async def send(item: Item) -> Item:
        return item

    @stage(place="url")
    async def receive(item: Item) -> None:
        tally.arrive(item.sent_ns)

    return Pipeline("hop", send >> receive, shards=shards)


def pipeline_of(task: str) -> Pipeline:
    kind, shards, _ = task.split()
    return hop_of(int(shards)) if kind == "hop" else crawl_of(int(shards), crosses=kind == "crosses")


def stages_of(task: str) -> list[str]:
    return task.split()[2].split(",")


async def work(task: str, url: str) -> None:
    await flowq.run(pipeline_of(task), redis=url, stages=stages_of(task), drain=False)


async def publish(task: str, url: str, messages: Iterable[Any]) -> None:
    pipeline = pipeline_of(task)
    async with Publisher(pipeline, redis=url) as publisher:
        await publisher.push_many(pipeline.plan.consumers[0].name, messages)


@asynccontextmanager
async def sender(task: str, url: str) -> AsyncGenerator[Callable[[Item], Awaitable[Any]]]:
    """Sends one message at a time."""
    async with Publisher(pipeline_of(task), redis=url) as publisher:
        yield lambda message: publisher.push("send", message)


@dataclass(frozen=True)
class Progress:
    """Messages that the stages of a task have not settled yet, and those that went from one shard to another so far."""

    outstanding: int
    in_transit: int
    crossed: int


async def progress(task: str, url: str) -> Progress:
    pipeline = pipeline_of(task)
    async with open_broker(pipeline.name, Settings.of_program(redis=url), pipeline.plan.shards) as broker:
        balance = await Inspector(pipeline.plan, broker).balance()
        ends = [await each.read(channels_reading(each.keys)) for each in broker.shards]
    return Progress(
        outstanding=sum(balance[stage].outstanding for stage in stages_of(task)),
        in_transit=sum(in_transit(ends).values()),
        crossed=sum(head.total for each in ends for head in each.heads.values()),
    )
