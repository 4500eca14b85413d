"""What a publisher that is open does while shards are moved, and once they have another number."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest
from pydantic import BaseModel

from flowq import Pipeline, Publisher, SyncPublisher, stage
from flowq.broker.open import open_broker
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import with_shards
from flowq.broker.shards.layout import LAYOUT_FIELD, WrongLayout, record_layout
from flowq.delivery.encoding.dedup_key import dedup_hash
from flowq.delivery.placement import cell_of_hash, cells, shard_of
from flowq.publisher import Pushed
from flowq.settings import Settings
from tests.eventually import eventually

SHARDS, MOST_SHARDS = 4, 8


class Link(BaseModel):
    url: str


@stage(place="url")
async def fetch(link: Link) -> None: ...


PIPELINE = Pipeline("moved", fetch, shards=SHARDS)


@pytest.fixture
async def broker(url: str, unique_namespace: str) -> AsyncIterator[Broker]:
    """With the brokers of as many shards as there are before or after a move."""
    settings = Settings.of_program(redis=url, namespace=unique_namespace)
    async with open_broker("moved", settings, SHARDS) as broker:
        await record_layout(broker, SHARDS)
        yield with_shards(broker, MOST_SHARDS)


@pytest.fixture
async def publisher(url: str, unique_namespace: str, broker: Broker) -> AsyncIterator[Publisher]:
    async with Publisher(PIPELINE, redis=url, namespace=unique_namespace) as publisher:
        yield publisher


async def begin_move(shards: Sequence[Broker]) -> None:
    for each in shards:
        await each.answer(b"HSET", each.keys.heads, LAYOUT_FIELD, b"moving")


async def stored(broker: Broker) -> list[Counter[str]]:
    """The URLs in each shard."""
    found: list[Counter[str]] = []
    for each in broker.shards:
        entries = await each.answer(b"XRANGE", each.keys.edge(">fetch"), b"-", b"+")
        bodies = [dict(zip(fields[::2], fields[1::2], strict=True))[b"b"] for _, fields in entries]
        found.append(Counter(Link.model_validate_json(body).url for body in bodies))
    return found


def placed(urls: Sequence[str], n_shards: int) -> list[Counter[str]]:
    shards = [cells(n_shards)[cell_of_hash(dedup_hash(url))] for url in urls]
    return [Counter(url for url, at in zip(urls, shards, strict=True) if at == shard) for shard in range(MOST_SHARDS)]


def links(first: int, n: int) -> list[Link]:
    return [Link(url=str(number)) for number in range(first, first + n)]


@pytest.mark.parametrize("n_shards", [1, 3, 8])
async def test_an_open_publisher_places_by_the_new_number_of_shards(
    publisher: Publisher, broker: Broker, n_shards: int
) -> None:
    await publisher.push(fetch, Link(url="before"))
    await record_layout(broker, n_shards)

    assert await publisher.push_many(fetch, links(0, 60), wait=False) == Pushed(60, 0)
    expected = placed([str(n) for n in range(60)], n_shards)
    expected[placed(["before"], SHARDS).index(Counter(["before"]))]["before"] += 1
    assert await stored(broker) == expected


async def test_a_push_waits_while_shards_are_moved(publisher: Publisher, broker: Broker) -> None:
    await begin_move(broker.shards)

    one = asyncio.create_task(publisher.push(fetch, Link(url="one")))
    named = asyncio.create_task(publisher.push_many(fetch, links(0, 50), id="import"))
    many = asyncio.create_task(publisher.push_many(fetch, links(50, 50)))
    with pytest.raises(WrongLayout, match="are being moved") as refused:
        await publisher.push(fetch, Link(url="two"), wait=False)
    assert refused.value.code == "FQ408"
    assert not any(task.done() for task in (one, named, many))
    assert sum(await stored(broker), Counter()) == Counter()

    await record_layout(broker, MOST_SHARDS)
    assert (await one).is_new
    assert await named == await many == Pushed(50, 0)
    through = broker.shards[shard_of(b"push_many:>fetch:import", MOST_SHARDS)]
    heads = await through.answer(b"HGETALL", through.keys.heads)
    sent = sum(int(value.split()[1]) for name, value in zip(heads[::2], heads[1::2], strict=True) if name.isdigit())
    there = await stored(broker)
    assert [urls & all_placed for urls, all_placed in zip(there, placed_of_all(), strict=True)] == there
    assert sum(there, Counter()).total() + sent == 101


def placed_of_all() -> list[Counter[str]]:
    return placed(["one", *(str(n) for n in range(100))], MOST_SHARDS)


async def test_what_some_shards_have_stored_before_a_move_is_not_stored_again(
    publisher: Publisher, broker: Broker
) -> None:
    await begin_move(broker.shards[2:])
    pushing = asyncio.create_task(publisher.push_many(fetch, links(0, 100)))
    before = placed([str(n) for n in range(100)], SHARDS)
    there = [*before[:2], *([Counter[str]()] * 6)]

    async def have_stored() -> bool:
        return await stored(broker) == there

    await eventually(have_stored)
    await begin_move(broker.shards[:2])
    await record_layout(broker, MOST_SHARDS)

    assert await pushing == Pushed(100, 0)
    assert sum(await stored(broker), Counter()) == Counter(str(n) for n in range(100))


async def test_an_id_that_was_stored_before_a_move_is_known_to_the_publisher_after_it(
    publisher: Publisher, broker: Broker
) -> None:
    assert (await publisher.push(fetch, Link(url="1"), id="order")).is_new
    before = await in_all(broker)
    await record_layout(broker, MOST_SHARDS)

    assert not (await publisher.push(fetch, Link(url="1"), id="order")).is_new
    assert await in_all(broker) == before


async def in_all(broker: Broker) -> tuple[list[Counter[str]], list[int]]:
    """What all edges and outboxes hold."""
    boxes = [
        await each.answer(b"XLEN", each.keys.outbox_of(str(to))) for each in broker.shards for to in range(MOST_SHARDS)
    ]
    return await stored(broker), boxes


async def test_a_publisher_without_asyncio_waits_as_well(url: str, unique_namespace: str, broker: Broker) -> None:
    with SyncPublisher(PIPELINE, redis=url, namespace=unique_namespace) as publisher:
        publisher.push(fetch, Link(url="before"))
        await begin_move(broker.shards)
        pushing = asyncio.create_task(asyncio.to_thread(publisher.push_many, fetch, links(0, 20)))
        with pytest.raises(WrongLayout, match="are being moved"):
            await asyncio.to_thread(publisher.push, fetch, Link(url="now"), wait=False)
        await record_layout(broker, MOST_SHARDS)

        assert await pushing == Pushed(20, 0)
    assert sum(await stored(broker), Counter()).total() == 21
