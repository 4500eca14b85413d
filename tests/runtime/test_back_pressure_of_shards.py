"""Back-pressure of a pipeline with several shards: what is full in another shard stops a stage here."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from flowq import Pipeline, stage
from flowq.broker.flow_control.backpressure import Backpressure
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.runtime.stage.sharded_writing import ShardedWriting
from tests.runtime.lab import Item, Lab

SHARDS = 4
LIMIT = 40_000


@stage
async def give(item: Item) -> Item:
    return item


@stage(place="n", maxsize=100, maxsize_bytes=LIMIT)
async def spread(item: Item) -> None: ...


@stage(maxsize=100, maxsize_bytes=LIMIT)
async def stay(item: Item) -> None: ...


SPREAD = Pipeline("spread", give >> spread, shards=SHARDS)
STAY = Pipeline("stay", give >> stay, shards=SHARDS)


@pytest.fixture
async def broker(lab: Lab) -> AsyncIterator[Broker]:
    made = with_shards(Broker(lab.dialer, lab.broker(SPREAD).keys), SHARDS)
    yield made
    await close_shards(made)


def backpressure(pipeline: Pipeline, broker: Broker) -> Backpressure:
    writing = ShardedWriting(pipeline.plan, broker, lambda _: None, is_clogged=lambda: False)
    return writing.backpressure(pipeline.plan.stage("give"))


async def fill(broker: Broker, edge: str, *, n_bytes: int) -> None:
    await broker.answer(b"XADD", broker.keys.edge(edge), b"*", b"body", b"x" * n_bytes)


async def test_an_edge_that_takes_too_much_memory_in_another_shard_is_full(broker: Broker) -> None:
    from_here = backpressure(SPREAD, broker)
    await from_here.until_free()
    other = broker.shards[2]
    await fill(other, "give>spread", n_bytes=LIMIT // SHARDS)

    from_here.sent(LIMIT, handled=1)
    assert from_here.need_a_look
    await from_here.look_again()

    assert from_here.are_full
    await other.answer(b"DEL", other.keys.edge("give>spread"))
    await from_here.until_free()
    assert not from_here.are_full


async def test_messages_that_stay_do_not_wait_for_other_shards(broker: Broker) -> None:
    from_here = backpressure(STAY, broker)
    await fill(broker.shards[2], "give>stay", n_bytes=LIMIT)

    await from_here.look_again()

    assert not from_here.are_full
    await fill(broker, "give>stay", n_bytes=LIMIT)
    from_here.sent(LIMIT, handled=1)
    await from_here.look_again()
    assert from_here.are_full


async def test_a_stage_goes_on_once_each_full_shard_has_room(broker: Broker) -> None:
    from_here = backpressure(SPREAD, broker)
    await from_here.until_free()

    from_here.note({"1/give>spread": 25, "3/give>spread": 25})

    assert from_here.are_full
    await from_here.until_free()  # both are asked: they are empty
    assert not from_here.are_full
