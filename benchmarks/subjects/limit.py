"""The second baseline: close to the minimum that Python can do with redis-py, written by hand for each workload.

It validates each message and writes each output, but has no retries, dead letters, counters or crash recovery, and
settled entries stay in their stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from benchmarks.item import Item, Link, links_of
from benchmarks.tally import tally

GROUP = "workers"
BATCH, PUSH = 500, 1000
NAPS_AT_ONCE, NAP_SECONDS = 100, 0.01

validate = Item.__pydantic_validator__.validate_json
to_json = Item.__pydantic_serializer__.to_json
link_to_json = Link.__pydantic_serializer__.to_json

# KEYS from, to   ARGV group, number of ids, the ids, the bodies
HAND_OFF = """
local n = tonumber(ARGV[2])
redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 3, 2 + n))
for i = 3 + n, #ARGV do redis.call('XADD', KEYS[2], '*', 'data', ARGV[i]) end
"""

# KEYS from, to, seen   ARGV group, number of ids, the ids, then value and body of each output
HAND_OFF_NEW = """
local n = tonumber(ARGV[2])
redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 3, 2 + n))
for i = 3 + n, #ARGV, 2 do
  if redis.call('SADD', KEYS[3], ARGV[i]) == 1 then redis.call('XADD', KEYS[2], '*', 'data', ARGV[i + 1]) end
end
"""

# KEYS to   ARGV the bodies
APPEND = """
for i = 1, #ARGV do redis.call('XADD', KEYS[1], '*', 'data', ARGV[i]) end
"""

Entries = list[tuple[bytes, dict[bytes, bytes]]]
Handle = Callable[[Redis, Entries], Awaitable[None]]


async def absorb(redis: Redis, entries: Entries, stream: str = "first") -> None:
    for _, fields in entries:
        validate(fields[b"data"])
        tally.hit()
    await redis.xack(stream, GROUP, *[entry_id for entry_id, _ in entries])


async def nap(redis: Redis, entries: Entries) -> None:
    async def one(body: bytes) -> None:
        validate(body)
        await asyncio.sleep(NAP_SECONDS)
        tally.hit()

    for first in range(0, len(entries), NAPS_AT_ONCE):
        await asyncio.gather(*(one(fields[b"data"]) for _, fields in entries[first : first + NAPS_AT_ONCE]))
    await redis.xack("first", GROUP, *[entry_id for entry_id, _ in entries])


async def receive(redis: Redis, entries: Entries) -> None:
    for _, fields in entries:
        tally.arrive(validate(fields[b"data"]).sent_ns)
    await redis.xack("first", GROUP, *[entry_id for entry_id, _ in entries])


def relay(origin: str, target: str) -> Handle:
    async def hand_off(redis: Redis, entries: Entries) -> None:
        tally.start()
        bodies = [to_json(validate(fields[b"data"])) for _, fields in entries]
        ids = [entry_id for entry_id, _ in entries]
        await redis.eval(HAND_OFF, 2, origin, target, GROUP, len(ids), *ids, *bodies)

    return hand_off


async def absorb_third(redis: Redis, entries: Entries) -> None:
    await absorb(redis, entries, "third")


async def expand(redis: Redis, entries: Entries) -> None:
    for first in range(0, len(entries), BATCH // 10):
        pages = entries[first : first + BATCH // 10]
        outputs: list[Any] = []
        for _, fields in pages:
            for link in links_of(validate(fields[b"data"])):
                outputs += (link.url, link_to_json(link))
            tally.hit()
        ids = [entry_id for entry_id, _ in pages]
        await redis.eval(HAND_OFF_NEW, 3, "first", "links", "seen", GROUP, len(ids), *ids, *outputs)


STREAMS: dict[str, dict[str, Handle]] = {
    "drain": {"first": absorb},
    "nap": {"first": nap},
    "latency": {"first": receive},
    "chain": {"first": relay("first", "second"), "second": relay("second", "third"), "third": absorb_third},
    "fan_out": {"first": expand},
}


async def work(task: str, url: str) -> None:
    await asyncio.gather(*(consume(url, stream, handle) for stream, handle in STREAMS[task].items()))


async def consume(url: str, stream: str, handle: Handle) -> None:
    """Read a batch, handle it, acknowledge it."""
    redis, me = Redis.from_url(url), str(os.getpid())
    await make_group(redis, stream)
    while True:
        for _, entries in await redis.xreadgroup(GROUP, me, {stream: ">"}, count=BATCH, block=1000):
            await handle(redis, entries)


async def make_group(redis: Redis, stream: str) -> None:
    with contextlib.suppress(ResponseError):  # another process was first
        await redis.xgroup_create(stream, GROUP, id="0", mkstream=True)


async def publish(task: str, url: str, messages: Iterable[Any]) -> None:
    """One script call for a thousand messages."""
    async with Redis.from_url(url) as redis:
        await make_group(redis, "first")
        append, left = redis.register_script(APPEND), iter(messages)
        while bodies := [message if isinstance(message, bytes) else to_json(message) for message in islice(left, PUSH)]:
            await append(["first"], bodies)


@asynccontextmanager
async def sender(task: str, url: str) -> AsyncGenerator[Callable[[Item], Awaitable[Any]]]:
    """Sends one message at a time."""
    async with Redis.from_url(url) as redis:
        await make_group(redis, "first")
        yield lambda message: redis.xadd("first", {"data": to_json(message)})


async def outstanding(task: str, url: str) -> int:
    """The number of messages read and not acknowledged. Call it once all have been handled."""
    async with Redis.from_url(url) as redis:
        return sum([(await redis.xpending(stream, GROUP))["pending"] for stream in STREAMS[task]])
