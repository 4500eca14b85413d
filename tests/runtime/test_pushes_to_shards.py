"""Where a publisher puts messages of a pipeline with several shards, and what it promises about a call."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import BaseModel

from flowq import Pipeline, Publisher, QueueFull, Rate, SyncPublisher, stage
from flowq.broker.open import open_broker
from flowq.broker.redis_streams import Broker
from flowq.delivery.encoding.dedup_key import dedup_hash
from flowq.delivery.placement import cell_of_hash, cells, shard_of
from flowq.publisher import Pushed
from flowq.settings import Settings

SHARDS = 4


class Link(BaseModel):
    url: str
    host: str = "example.org"


@stage(dedup="url", maxsize=100)
async def fetch(link: Link) -> Link:
    return link


@stage(rate=Rate(20))
async def count(link: Link) -> None: ...


@stage
async def keep(link: Link) -> None: ...


PIPELINE = Pipeline("spread", fetch >> count, keep, shards=SHARDS)


@pytest.fixture
async def broker(url: str, unique_namespace: str) -> AsyncIterator[Broker]:
    async with open_broker("spread", Settings.of_program(redis=url, namespace=unique_namespace), SHARDS) as broker:
        yield broker


@pytest.fixture
async def publisher(url: str, unique_namespace: str, broker: Broker) -> AsyncIterator[Publisher]:
    async with Publisher(PIPELINE, redis=url, namespace=unique_namespace) as publisher:
        yield publisher


async def stored(broker: Broker, edge: str) -> list[int]:
    """How many messages each shard has on an edge."""
    return [await each.answer(b"XLEN", each.keys.edge(edge)) for each in broker.shards]


async def in_outboxes(broker: Broker, shard: int) -> int:
    """How many messages have been put into the outboxes of a shard."""
    heads = await broker.shards[shard].answer(b"HGETALL", broker.shards[shard].keys.heads)
    fields = dict(zip(heads[::2], heads[1::2], strict=True))
    return sum(int(value.split()[1]) for name, value in fields.items() if name.isdigit())


def shard_of_url(url: str) -> int:
    return cells(SHARDS)[cell_of_hash(dedup_hash(url))]


async def test_a_message_is_stored_in_the_shard_of_its_key(publisher: Publisher, broker: Broker) -> None:
    for n in range(20):
        assert (await publisher.push(fetch, Link(url=str(n)))).is_new

    shards = [shard_of_url(str(n)) for n in range(20)]
    assert await stored(broker, ">fetch") == [shards.count(shard) for shard in range(SHARDS)]


async def test_an_equal_value_is_dropped_wherever_it_comes_from(publisher: Publisher, broker: Broker) -> None:
    links = [Link(url=str(n % 50)) for n in range(300)]

    assert await publisher.push_many(fetch, links) == Pushed(50, 250)
    assert not (await publisher.push(fetch, Link(url="7"))).is_new
    assert sum(await stored(broker, ">fetch")) == 50


async def test_a_stage_with_one_rate_has_all_its_messages_in_its_home(publisher: Publisher, broker: Broker) -> None:
    await publisher.push_many(count, [Link(url=str(n)) for n in range(30)])

    home = shard_of(b"count", SHARDS)
    assert await stored(broker, ">count") == [30 * (shard == home) for shard in range(SHARDS)]


async def test_messages_without_a_key_are_spread(publisher: Publisher, broker: Broker) -> None:
    await publisher.push_many(keep, [Link(url=str(n)) for n in range(400)])

    assert min(await stored(broker, ">keep")) > 50


async def test_the_same_id_is_stored_once_whatever_the_key(publisher: Publisher, broker: Broker) -> None:
    first = await publisher.push(count, Link(url="1"), id="order 1")
    again = await publisher.push(count, Link(url="2"), id="order 1")

    assert (first.is_new, again.is_new) == (True, False)
    through, home = shard_of(b"order%201", SHARDS), shard_of(b"count", SHARDS)
    assert through != home, "choose another id"
    assert await in_outboxes(broker, through) == 1
    assert sum(await stored(broker, ">count")) == 0  # a forwarder takes it there


async def test_an_id_in_the_shard_of_its_key_is_stored_there_at_once(publisher: Publisher, broker: Broker) -> None:
    for n in range(20):
        await publisher.push(keep, Link(url="1"), id=f"{n}")

    assert sum(await stored(broker, ">keep")) == 20


async def test_many_with_an_id_are_stored_once_and_through_one_shard(publisher: Publisher, broker: Broker) -> None:
    links = [Link(url=str(n)) for n in range(80)]

    first = await publisher.push_many(fetch, links, id="import")
    again = await publisher.push_many(fetch, links, id="import")

    assert (first.appended, again.appended) == (80, 80)  # as in one shard, a repeated call answers as the first
    sent = [await in_outboxes(broker, shard) for shard in range(SHARDS)]
    assert sum(await stored(broker, ">fetch")) + sum(sent) == 80
    assert sum(n > 0 for n in sent) == 1


async def test_each_shard_has_its_part_of_a_limit(publisher: Publisher) -> None:
    urls = [str(n) for n in range(1000) if shard_of_url(str(n)) == 2]
    await publisher.push_many(fetch, [Link(url=url) for url in urls[:25]])

    with pytest.raises(QueueFull, match="holds 25 messages, its maxsize is 25"):
        await publisher.push(fetch, Link(url=urls[25]), wait=False)
    other = next(str(n) for n in range(1000) if shard_of_url(str(n)) == 3)
    assert (await publisher.push(fetch, Link(url=other), wait=False)).is_new


async def test_a_full_shard_refuses_also_what_would_reach_it_through_another(publisher: Publisher) -> None:
    urls = [str(n) for n in range(1000) if shard_of_url(str(n)) == 2]
    await publisher.push_many(fetch, [Link(url=url) for url in urls[:25]])
    through_another = next(f"id{n}" for n in range(100) if shard_of(f"id{n}".encode(), SHARDS) != 2)

    with pytest.raises(QueueFull, match="holds 25 messages, its maxsize is 25"):
        await publisher.push(fetch, Link(url=urls[25]), id=through_another, wait=False)


def test_a_publisher_without_asyncio_places_messages_too(url: str, unique_namespace: str) -> None:
    with SyncPublisher(PIPELINE, redis=url, namespace=unique_namespace) as publisher:
        assert publisher.push_many(fetch, [Link(url=str(n)) for n in range(40)]) == Pushed(40, 0)
        assert publisher.push(fetch, Link(url="new"), delay="1h").is_new
