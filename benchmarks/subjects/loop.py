"""The first baseline: the loop that tutorials show, with a task and an acknowledgement per message."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from benchmarks.item import Item, links_of
from benchmarks.tally import tally

GROUP = "workers"
AT_ONCE, NAPS_AT_ONCE, NAP_SECONDS = 10, 100, 0.01
CHUNK = 1000

Handle = Callable[[Redis, dict[str, Any]], Awaitable[None]]


async def absorb(redis: Redis, job: dict[str, Any]) -> None:
    tally.hit()


async def nap(redis: Redis, job: dict[str, Any]) -> None:
    await asyncio.sleep(NAP_SECONDS)
    tally.hit()


async def receive(redis: Redis, job: dict[str, Any]) -> None:
    tally.arrive(job["sent_ns"])


async def relay_to_second(redis: Redis, job: dict[str, Any]) -> None:
    tally.start()
    await redis.xadd("second", {"data": json.dumps(job)})


async def relay_to_third(redis: Redis, job: dict[str, Any]) -> None:
    await redis.xadd("third", {"data": json.dumps(job)})


async def expand(redis: Redis, job: dict[str, Any]) -> None:
    for link in links_of(Item(**job)):
        if await redis.sadd("seen", link.url):
            await redis.xadd("links", {"data": json.dumps({"url": link.url, "depth": link.depth})})
    tally.hit()


STREAMS: dict[str, dict[str, Handle]] = {
    "drain": {"first": absorb},
    "nap": {"first": nap},
    "latency": {"first": receive},
    "chain": {"first": relay_to_second, "second": relay_to_third, "third": absorb},
    "fan_out": {"first": expand},
}


async def work(task: str, url: str) -> None:
    at_once = NAPS_AT_ONCE if task == "nap" else AT_ONCE
    await asyncio.gather(*(consume(url, stream, handle, at_once) for stream, handle in STREAMS[task].items()))


async def consume(url: str, stream: str, handle: Handle, at_once: int) -> None:
    """Read ten, start a task for each, wait for all of them."""
    redis, slots, me = Redis.from_url(url), asyncio.Semaphore(at_once), str(os.getpid())
    await make_group(redis, stream)

    async def process(entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        async with slots:
            await handle(redis, json.loads(fields[b"data"]))
            await redis.xack(stream, GROUP, entry_id)

    while True:
        for _, entries in await redis.xreadgroup(GROUP, me, {stream: ">"}, count=at_once, block=1000):
            await asyncio.gather(*(asyncio.create_task(process(*entry)) for entry in entries))


async def make_group(redis: Redis, stream: str) -> None:
    with contextlib.suppress(ResponseError):  # another process was first
        await redis.xgroup_create(stream, GROUP, id="0", mkstream=True)


async def publish(task: str, url: str, messages: Iterable[Any]) -> None:
    """One command for each message, a thousand of them in a pipeline."""
    async with Redis.from_url(url) as redis:
        await make_group(redis, "first")
        pipeline = redis.pipeline(transaction=False)
        for message in messages:
            body = message if isinstance(message, bytes) else json.dumps(message.model_dump())
            pipeline.xadd("first", {"data": body})
            if len(pipeline) == CHUNK:
                await pipeline.execute()
        await pipeline.execute()


@asynccontextmanager
async def sender(task: str, url: str) -> AsyncGenerator[Callable[[Item], Awaitable[Any]]]:
    """Sends one message at a time."""
    async with Redis.from_url(url) as redis:
        await make_group(redis, "first")
        yield lambda message: redis.xadd("first", {"data": json.dumps(message.model_dump())})


async def outstanding(task: str, url: str) -> int:
    """The number of messages read and not acknowledged. Call it once all have been handled."""
    async with Redis.from_url(url) as redis:
        return sum([(await redis.xpending(stream, GROUP))["pending"] for stream in STREAMS[task]])
