"""What a delivery emits for other shards lies in outboxes once it is settled, and only then."""

from __future__ import annotations

import pytest

from flowq.broker.keys import Keys
from flowq.broker.shards.channel import EntryId
from flowq.broker.shards.layout import WrongLayout
from flowq.delivery.edge import address
from flowq.delivery.policy import DedupMemory
from flowq.errors import BrokerRefused
from tests.conformance.conftest import Command
from tests.conformance.shards.conftest import MakeShards
from tests.conformance.shards.two_shards import Shard, bodies_in, crossing
from tests.conformance.streams import reclaim
from tests.conformance.worker import IN, OUT, Worker, done, output

LAST_ID = b"18446744073709551615-18446744073709551615"


async def test_what_a_message_emits_for_another_shard_is_put_into_its_outbox_as_it_is_settled(here: Shard) -> None:
    delivery = await here.worker.given_one()

    receipt = await here.settle(done(delivery, crossing(b"there"), output(OUT, b"here"), crossing(b"there too")))

    assert (receipt.won, receipt.outstanding) == (1, {OUT: 1})
    assert await here.bodies() == [b"here"]
    (entry,) = here.sent
    assert bodies_in(entry) == [b"there", b"there too"]
    assert (entry.to, entry.before, entry.total, entry.n_messages) == (1, b"0-0", 2, 2)
    assert await here.outbox(1) == [entry]


async def test_what_was_emitted_for_other_shards_counts_as_output(here: Shard) -> None:
    delivery = await here.worker.given_one()

    await here.settle(done(delivery, crossing(b"1"), crossing(b"2", delay_ms=1000), output(OUT, b"3")))

    assert await here.counters() == {"in:>parse": 1, "ok:parse": 1, "out:parse": 3, f"in:{OUT}": 1}


async def test_each_shard_has_a_channel_of_its_own_whose_entries_follow_each_other(here: Shard) -> None:
    for n in (b"1", b"2"):
        third = output(OUT, n)._replace(edge=address(3, OUT))
        await here.settle(done(await here.worker.given_one(), crossing(n), third, third))

    first, _, second, _ = here.sent
    assert (first.total, second.total, second.before) == (1, 2, first.id)
    assert EntryId.parse(second.id) == EntryId(EntryId.parse(first.id).epoch, 2)
    assert [entry.total for entry in await here.outbox(3)] == [2, 4]
    assert await here.outbox(1) == [first, second]


async def test_a_late_settlement_of_what_another_worker_has_taken_over_puts_nothing(
    here: Shard, other: Worker, keys: Keys, redis: Command
) -> None:
    delivery = await here.worker.given_one()
    await reclaim(other, here.worker, keys, redis)

    receipt = await here.settle(done(delivery, crossing(b"1")))

    assert (receipt.won, here.sent, await here.outbox(1)) == (0, [], [])


async def test_an_epoch_begins_with_the_first_entry_that_a_connection_puts(
    here: Shard, other: Worker, keys: Keys, redis: Command
) -> None:
    async def put() -> EntryId:
        await here.settle(done(await here.worker.given_one(), crossing(b"1")))
        return EntryId.parse(here.sent[-1].id)

    first, second = await put(), await put()
    late = await here.worker.given_one()
    await reclaim(other, here.worker, keys, redis)
    await here.settling.close()
    assert (await here.settle(done(late, crossing(b"too late")))).won == 0
    third, fourth = await put(), await put()

    assert second == (first.epoch, 2)
    assert third.epoch > second.epoch
    assert (third.number, fourth) == (1, (third.epoch, 2))
    assert here.sent[2].before == here.sent[1].id


async def test_a_server_whose_clock_is_behind_does_not_give_an_id_twice(
    here: Shard, keys: Keys, redis: Command
) -> None:
    future = 4_000_000_000_000_000
    await redis(b"HSET", keys.heads, b"epoch", future, b"1", f"{future}-7 7")

    await here.settle(done(await here.worker.given_one(), crossing(b"1")))

    assert (here.sent[0].id, here.sent[0].before) == (b"%d-1" % (future + 1), b"%d-7" % future)


async def test_a_connection_begins_an_epoch_above_those_that_its_worker_has_seen(
    here: Shard, keys: Keys, redis: Command
) -> None:
    future = 4_000_000_000_000_000
    await redis(b"HSET", keys.heads, b"epoch", future)
    await here.settle(done(await here.worker.given_one(), crossing(b"1")))
    await redis(b"DEL", keys.outbox_of("1"))
    await redis(b"HDEL", keys.heads, b"epoch", b"1")  # another server as it were, whose clock is behind
    await here.settling.close()

    await here.settle(done(await here.worker.given_one(), crossing(b"2")))

    first, second = (EntryId.parse(entry.id) for entry in here.sent)
    assert second == (first.epoch + 1, 1)


@pytest.mark.parametrize("layout", ["1", "3", "moving"])
async def test_a_shard_with_another_layout_settles_nothing_that_crosses(
    layout: str, here: Shard, keys: Keys, redis: Command
) -> None:
    delivery = await here.worker.given_one()
    await redis(b"HSET", keys.heads, b"layout", layout)

    with pytest.raises(WrongLayout):
        await here.settle(done(delivery, crossing(b"1")))

    assert (await redis(b"XPENDING", keys.edge(IN), b"flowq"))[0] == 1
    assert (await here.outbox(1), await here.counters()) == ([], {"in:>parse": 1})


async def test_a_shard_that_was_emptied_goes_on_without_a_layout(here: Shard, keys: Keys, redis: Command) -> None:
    await redis(b"DEL", keys.heads)

    await here.settle(done(await here.worker.given_one(), crossing(b"1")))

    assert len(await here.outbox(1)) == 1


# What other programs do to outboxes


@pytest.mark.parametrize("lost", [b"", b"nonsense", b"9999999999999999999999-1 5", b"1-1"])
async def test_what_heads_has_forgotten_the_outbox_knows(lost: bytes, here: Shard, keys: Keys, redis: Command) -> None:
    await here.settle(done(await here.worker.given_one(), crossing(b"1"), crossing(b"2")))
    await redis(b"DEL", keys.heads)
    if lost:
        await redis(b"HSET", keys.heads, b"1", lost)

    await here.settle(done(await here.worker.given_one(), crossing(b"3")))

    first, second = here.sent
    assert (second.before, second.total) == (first.id, 3)
    assert EntryId.parse(second.id) > EntryId.parse(first.id)


async def test_an_outbox_that_was_trimmed_still_knows_its_last_id(here: Shard, keys: Keys, redis: Command) -> None:
    await here.settle(done(await here.worker.given_one(), crossing(b"1")))
    await redis(b"XTRIM", keys.outbox_of("1"), b"MAXLEN", 0)
    await redis(b"DEL", keys.heads)

    await here.settle(done(await here.worker.given_one(), crossing(b"2")))

    assert here.sent[1].before == here.sent[0].id


@pytest.mark.parametrize("entry_id", [b"9000000000000000000-1", LAST_ID])
async def test_an_entry_that_another_program_adds_above_all_others_is_removed(
    entry_id: bytes, here: Shard, keys: Keys, redis: Command
) -> None:
    await here.settle(done(await here.worker.given_one(), crossing(b"1")))
    await redis(b"XADD", keys.outbox_of("1"), entry_id, b"x", b"y")

    await here.settle(done(await here.worker.given_one(), crossing(b"2")))

    assert await here.outbox(1) == here.sent
    assert [bodies_in(entry) for entry in here.sent] == [[b"1"], [b"2"]]


async def test_a_key_of_another_type_is_found_before_anything_is_settled(
    here: Shard, keys: Keys, redis: Command
) -> None:
    delivery = await here.worker.given_one()
    await redis(b"SET", keys.outbox_of("1"), b"x")

    with pytest.raises(BrokerRefused, match="string"):
        await here.settle(done(delivery, crossing(b"1")))

    assert (await redis(b"XPENDING", keys.edge(IN), b"flowq"))[0] == 1


# What it carries


async def test_a_message_of_several_megabytes_crosses_as_it_is(here: Shard) -> None:
    body = bytes(range(256)) * 20_000

    await here.settle(done(await here.worker.given_one(), crossing(body)))

    assert bodies_in(here.sent[0]) == [body]
    assert await here.outbox(1) == here.sent


async def test_equal_values_of_one_call_are_sent_once_and_counted(make_shards: MakeShards) -> None:
    here, _ = await make_shards(memory={OUT: DedupMemory()})

    outputs = [crossing(n, dedup=value) for n, value in ((b"1", "a"), (b"2", "a"), (b"3", "b"))]
    await here.settle(done(await here.worker.given_one(), *outputs))

    (entry,) = here.sent
    assert (bodies_in(entry), entry.n_messages) == ([b"1", b"3"], 3)
