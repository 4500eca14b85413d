"""A dead letter that is changed so that its key lives in another shard is put back there, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import flowq
from flowq.broker.client.connection import Dialer
from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.dead_letters.homes import Homes
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.errors import BrokerUnavailable
from tests.conformance.shards.mortal import MortalDialer
from tests.conformance.shards.seen_shards import N_SHARDS, SeenShards
from tests.conformance.worker import IN, Item, buried


@flowq.stage(place="n", name="parse")
def placed_by_number(item: Item) -> None: ...


PLAN = flowq.Pipeline("lab", placed_by_number, shards=N_SHARDS).plan


@pytest.fixture
async def seen(dialer: Dialer, keys: Keys) -> AsyncIterator[SeenShards]:
    seen = await SeenShards.of(dialer, keys)
    lane = seen.lanes[0]
    await lane.settle(buried(await lane.given_one(b'{"n":0}')))
    yield seen
    await seen.close()


def number_in(shard: int, letter: DeadLetterRecord, broker: Broker) -> int:
    """A number with which this letter lives in a shard."""
    homes = Homes(PLAN, broker)
    return next(n for n in range(1, 99) if homes.of(IN, letter.header, b'{"n":%d}' % n) == shard)


async def waiting(seen: SeenShards) -> list[tuple[int, bytes]]:
    """Shard and body of all messages that wait."""
    found: list[tuple[int, bytes]] = []
    for broker in seen.broker.shards:
        entries = await broker.answer(b"XRANGE", broker.keys.edge(IN), b"-", b"+")
        found += [(broker.shard, fields[fields.index(b"b") + 1]) for _, fields in entries]
    return found


@pytest.mark.parametrize("shard", range(N_SHARDS))
async def test_a_changed_letter_is_put_back_in_the_shard_of_its_new_key(seen: SeenShards, shard: int) -> None:
    letters = DeadLetters(PLAN, seen.broker)
    (letter,) = await letters.first(limit=1)
    body = b'{"n":%d}' % number_in(shard, letter, seen.broker)

    assert (await letters.fix("parse", {letter.id: body}, and_put_back=True)).n == 1

    assert await waiting(seen) == [(shard, body)]
    assert await letters.first(limit=1) == []


async def test_a_letter_that_was_changed_before_goes_there_when_it_is_put_back(seen: SeenShards) -> None:
    letters = DeadLetters(PLAN, seen.broker)
    (letter,) = await letters.first(limit=1)
    body = b'{"n":%d}' % number_in(2, letter, seen.broker)
    assert (await letters.fix("parse", {letter.id: body})).n == 1
    assert await waiting(seen) == []

    assert await letters.put_back(dry_run=True) == {"parse": 1}
    assert await letters.put_back() == {"parse": 1}

    assert await waiting(seen) == [(2, body)]
    assert await letters.first(limit=1) == []


@pytest.mark.parametrize("n_requests", range(1, 13))
async def test_an_interrupted_call_is_repeated_and_puts_nothing_back_twice(
    seen: SeenShards, dialer: Dialer, keys: Keys, n_requests: int
) -> None:
    (letter,) = await DeadLetters(PLAN, seen.broker).first(limit=1)
    body = b'{"n":%d}' % number_in(2, letter, seen.broker)
    dying = MortalDialer(dialer, n_requests)
    broker = with_shards(Broker(dying, keys), N_SHARDS)
    call = asyncio.create_task(DeadLetters(PLAN, broker).put_back(edit=lambda _: body))
    dying.victim = call
    await asyncio.wait([call])
    assert call.cancelled() or call.exception() is None or isinstance(call.exception(), BrokerUnavailable)
    await close_shards(broker)

    assert len(await waiting(seen)) + len(await DeadLetters(PLAN, seen.broker).first(limit=1)) >= 1
    await DeadLetters(PLAN, seen.broker).put_back(edit=lambda _: body)

    assert await waiting(seen) == [(2, body)]
    assert await DeadLetters(PLAN, seen.broker).first(limit=1) == []
