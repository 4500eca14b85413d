"""What a `kill -9` of Redis costs for each kind of persistence is what `flowq doctor` says."""

from __future__ import annotations

import asyncio

import pytest
import redis
from pydantic import BaseModel

import flowq
from flowq.broker.edges import Edges
from flowq.broker.inspection.diagnosis import loss_windows
from flowq.broker.inspection.health import ServerHealth
from flowq.broker.open import open_broker
from flowq.settings import Settings
from tests.eventually import eventually
from tests.redis_server import KINDS, Kind, RedisServer

N = 2000


class Item(BaseModel):
    n: int


@flowq.stage
def store(item: Item) -> None: ...


LAB = flowq.Pipeline("lab", store)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "promised", "lost"),
    [
        (("--appendonly", "yes", "--appendfsync", "always"), "0", 0),
        (("--appendonly", "yes", "--appendfsync", "everysec"), "0", 0),
        (("--appendonly", "yes", "--appendfsync", "no"), "0", 0),
        (("--save", "3600 1"), "all since the last snapshot", N),
        ((), "everything", 2 * N),
    ],
    ids=["always", "everysec", "no fsync", "snapshots", "nothing"],
)
async def test_what_is_lost_of_what_was_confirmed_when_redis_is_killed(
    kind: Kind, options: tuple[str, ...], promised: str, lost: int
) -> None:
    with RedisServer(kind, *options) as server:
        async with open_broker("lab", Settings.of_program(redis=server.url)) as broker:
            health = await ServerHealth(broker).examine()
        await push(server.url, range(N))
        if options[:1] == ("--save",):
            with redis.Redis.from_url(server.url) as client:
                client.save()
        await push(server.url, range(N, 2 * N))

        server.kill()
        server.start()

        async with open_broker("lab", Settings.of_program(redis=server.url)) as broker:
            left = (await Edges(broker).outstanding([">store"]))[">store"]
    assert 2 * N - left == lost
    assert loss_windows(health, "local")["kill of the process"] == promised


async def push(url: str, numbers: range) -> None:
    """One call of Redis each hundred: the kill comes right after the last was confirmed."""
    async with flowq.Publisher(LAB, redis=url) as publisher:
        for first in range(numbers.start, numbers.stop, 100):
            await publisher.push_many(store, [Item(n=n) for n in range(first, first + 100)])


async def test_after_everything_was_lost_new_input_is_handled_by_the_same_worker() -> None:
    with RedisServer("debian") as server:
        taken: list[int] = []

        @flowq.stage
        async def take(item: Item) -> None:
            taken.append(item.n)

        lab = flowq.Pipeline("lab", take)
        running = asyncio.create_task(flowq.run(lab, redis=server.url, drain=False, lease=2.0, grace=0.0))
        try:
            for n in (1, 2):
                async with flowq.Publisher(lab, redis=server.url) as publisher:
                    await publisher.push(take, Item(n=n))
                await eventually(lambda n=n: n in taken)
                if n == 1:
                    server.kill()
                    server.start()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    assert taken == [1, 2]
