"""Delayed messages are back on their edge when they are due, each once."""

from __future__ import annotations

import asyncio

import pytest

from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.publishing import Publishing
from flowq.errors import BrokerRefused
from tests.conformance.conftest import Command
from tests.conformance.worker import IN, OUT, Worker, output
from tests.eventually import eventually


async def test_nothing_moves_before_its_time(worker: Worker) -> None:
    await Publishing(worker.broker).publish(IN, [output(IN, b"x")], delay_ms=60_000)

    moved, next_ms = await Edges(worker.broker).promote([IN])

    assert moved == 0
    assert next_ms is not None
    assert 50_000 < next_ms <= 60_000


async def test_what_is_due_moves_and_the_rest_tells_when_it_will_be(worker: Worker) -> None:
    await Publishing(worker.broker).publish(IN, [output(IN, b"soon")], delay_ms=1)
    await Publishing(worker.broker).publish(IN, [output(IN, b"later")], delay_ms=60_000)
    moves: list[int] = []

    async def moved() -> bool:
        n, next_ms = await Edges(worker.broker).promote([IN])
        moves.append(n)
        assert next_ms is not None
        assert next_ms <= 60_000
        return n > 0

    await eventually(moved)

    assert sum(moves) == 1
    assert [delivery.body for delivery in await worker.read()] == [b"soon"]
    assert (await worker.balance()).delayed == 1


async def test_an_edge_without_delayed_messages_has_no_next_one(worker: Worker) -> None:
    assert await Edges(worker.broker).promote([IN, OUT]) == (0, None)


async def test_two_promoters_at_once_move_each_message_once(worker: Worker, other: Worker) -> None:
    await Publishing(worker.broker).publish(IN, [output(IN, b"%d" % n) for n in range(300)], delay_ms=1)

    async def promote(who: Worker) -> int:
        moved = 0
        while (await worker.snapshot()).edges[IN].delayed:
            moved += (await Edges(who.broker).promote([IN], limit=7))[0]
        return moved

    moved = await asyncio.gather(promote(worker), promote(other))

    assert sum(moved) == 300
    read = [delivery for _ in range(5) for delivery in await worker.read(1000)]
    assert sorted(int(delivery.body) for delivery in read) == list(range(300))


async def test_no_more_than_the_limit_moves_and_the_rest_is_due_now(worker: Worker) -> None:
    await Publishing(worker.broker).publish(IN, [output(IN, b"%d" % n) for n in range(10)], delay_ms=1)

    async def all_due() -> bool:
        return (await Edges(worker.broker).promote([IN], limit=0))[1] == 0

    await eventually(all_due)

    assert await Edges(worker.broker).promote([IN], limit=4) == (4, 0)
    assert (await worker.balance()).delayed == 6


async def test_a_thousand_messages_move_in_one_call(worker: Worker) -> None:
    await Publishing(worker.broker).publish(IN, [output(IN, b"x") for _ in range(1000)], delay_ms=1)
    total = 0

    async def moved() -> bool:
        nonlocal total
        total += (await Edges(worker.broker).promote([IN]))[0]
        return total == 1000

    await eventually(moved)


async def test_a_message_goes_back_to_its_own_edge(worker: Worker, keys: Keys, redis: Command) -> None:
    await Publishing(worker.broker).publish(IN, [output(IN, b"in")], delay_ms=1)
    await Publishing(worker.broker).publish(OUT, [output(OUT, b"out")], delay_ms=1)

    async def moved() -> bool:
        await Edges(worker.broker).promote([IN, OUT])
        return not any(edge.delayed for edge in (await worker.snapshot()).edges.values())

    await eventually(moved)

    for edge, body in ((IN, b"in"), (OUT, b"out")):
        ((_, fields),) = await redis(b"XRANGE", keys.edge(edge), b"-", b"+")
        assert fields[3] == body


@pytest.mark.parametrize("wrong", ["edge", "delayed", "parked"])
async def test_a_key_of_the_wrong_type_moves_nothing(wrong: str, worker: Worker, keys: Keys, redis: Command) -> None:
    key = {"edge": keys.edge(OUT), "delayed": keys.delayed(OUT), "parked": keys.delayed_bodies(OUT)}[wrong]
    await Publishing(worker.broker).publish(IN, [output(IN, b"x")], delay_ms=1)
    await redis(b"DEL", key)
    await redis(b"SET", key, b"somebody else's")

    with pytest.raises(BrokerRefused):
        await Edges(worker.broker).promote([IN, OUT])

    assert await redis(b"ZCARD", keys.delayed(IN)) == 1
