"""A call publishes to edges of several shards in one step, once."""

from __future__ import annotations

import pytest

from flowq.broker.keys import Keys
from flowq.broker.publishing import CursorMove, Parcel, Refused
from flowq.broker.records import Published
from flowq.broker.shards.channel import EntryId
from flowq.broker.shards.layout import WrongLayout
from flowq.delivery.policy import DedupMemory
from tests.conformance.conftest import Command
from tests.conformance.shards.conftest import MakeShards
from tests.conformance.shards.two_shards import THERE, Shard, apply, bodies_in, crossing
from tests.conformance.worker import IN, OUT, output


def parcels(*, maxsize: int = 0) -> list[Parcel]:
    return [Parcel(IN, [output(IN, b"here")], maxsize=maxsize), Parcel(THERE, [crossing(b"1"), crossing(b"2")])]


async def test_messages_for_other_shards_lie_in_outboxes_and_count_as_appended(here: Shard) -> None:
    published = await here.publishing.publish_together(parcels(), source="source")

    assert published == Published(3, 0)
    assert await here.bodies(IN) == [b"here"]
    assert await here.outbox(1) == here.sent
    assert bodies_in(here.sent[0]) == [b"1", b"2"]
    assert await here.counters() == {"in:>parse": 1, "out:source": 3}


async def test_the_same_token_again_puts_nothing(here: Shard) -> None:
    first = await here.publishing.publish_together(parcels(), token="once", call_id="a")
    again = await here.publishing.publish_together(parcels(), token="once", call_id="a")
    by_another = await here.publishing.publish_together(parcels(), token="once", call_id="b")

    assert (first, again) == (Published(3, 0), Published(3, 0))
    assert by_another == Published(3, 0, is_repeated=True)
    assert len(await here.outbox(1)) == len(here.sent) == 1


async def test_a_full_edge_refuses_what_is_for_other_shards_as_well(here: Shard) -> None:
    await here.worker.publish(b"1")

    assert await here.publishing.publish_together(parcels(maxsize=1)) == Published(0, 0, full_at=1)

    assert await here.outbox(1) == here.sent == []


async def test_a_cursor_moves_together_with_what_is_for_other_shards(here: Shard, keys: Keys, redis: Command) -> None:
    move = CursorMove("source", b"", b"7")
    first = await here.publishing.publish_together(parcels(), source="source", move=move)
    again = await here.publishing.publish_together(parcels(), source="source", move=move)

    assert (first.appended, again) == (3, Published(0, 0, is_elsewhere=True))
    assert await redis(b"HGET", keys.cursors, b"source") == b"7"
    assert len(await here.outbox(1)) == 1


@pytest.mark.parametrize("edge", [IN, THERE])
async def test_a_shard_with_another_layout_takes_nothing(edge: str, here: Shard, keys: Keys, redis: Command) -> None:
    await redis(b"HSET", keys.heads, b"layout", b"moving")

    with pytest.raises(WrongLayout):
        await here.publishing.publish(edge, [output(OUT, b"1")], token="t")

    assert (await here.bodies(IN), await here.outbox(1)) == ([], [])
    assert await redis(b"EXISTS", keys.published) == 0


async def test_each_call_begins_an_epoch_since_its_connection_may_be_another_one(here: Shard) -> None:
    for n in (b"1", b"2"):
        await here.publishing.publish(THERE, [crossing(n)])

    first, second = (EntryId.parse(entry.id) for entry in here.sent)
    assert first.epoch < second.epoch
    assert here.sent[1].before == here.sent[0].id


async def test_a_delay_begins_when_a_message_arrives_in_its_shard(make_shards: MakeShards, redis: Command) -> None:
    here, there = await make_shards()
    await here.publishing.publish(THERE, [crossing(b"1"), crossing(b"2")], delay_ms=60_000)

    await apply(there, here.sent)

    assert (await there.bodies(), await redis(b"ZCARD", there.keys.delayed(OUT))) == ([], 2)


async def test_what_could_not_become_a_message_stays_in_this_shard(here: Shard, keys: Keys, redis: Command) -> None:
    refused = Refused(OUT, b"r - - 0", b"bad", b"{}")

    await here.publishing.publish_together([Parcel(THERE, [crossing(b"1")], [refused], DedupMemory())], source="source")

    assert await redis(b"XLEN", keys.dead("store")) == 1
    assert bodies_in(here.sent[0]) == [b"1"]
    assert await here.counters() == {f"in:{OUT}": 1, "dead:store": 1, "out:source": 2}
