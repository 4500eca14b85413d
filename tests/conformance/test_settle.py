"""Settling: once, by its owner, with everything that follows from it or nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from redis.asyncio.connection import Connection

from flowq.broker.connection import Link, UrlDialer
from flowq.broker.keys import Keys
from flowq.delivery.message import Delivery
from flowq.delivery.settlement import Ack
from flowq.errors import BrokerRefused
from tests.conformance.conftest import Command, SignOn
from tests.conformance.worker import IN, OUT, Settle, Worker, buried, done, filtered, output, released, retried


async def reclaim(taker: Worker, victim: Worker, keys: Keys, redis: Command, *, limit: int = 100) -> Sequence[Delivery]:
    """The lease of the victim has run out, and the taker claims what it had."""
    await redis(b"DEL", keys.lease(victim.name))
    taken = await taker.broker.reclaim(IN, victim.name, taker.name, limit=limit, beat=None)
    assert taken is not None
    return taken.deliveries


async def bodies(redis: Command, stream: str) -> list[bytes]:
    return [fields[fields.index(b"b") + 1] for _, fields in await redis(b"XRANGE", stream, b"-", b"+")]


# Once


async def test_a_success_leaves_the_edge_and_appends_its_outputs(worker: Worker, keys: Keys, redis: Command) -> None:
    delivery = await worker.given_one()

    receipt = await worker.settle(done(delivery, output(OUT, b"x"), output(OUT, b"y")))

    assert (receipt.sent, receipt.won, receipt.outstanding) == (1, 1, {OUT: 2})
    assert await bodies(redis, keys.edge(OUT)) == [b"x", b"y"]
    assert await redis(b"XLEN", keys.edge(IN)) == 0
    assert (await worker.balance()).ok == 1


async def test_the_same_call_again_appends_nothing(worker: Worker, keys: Keys, redis: Command) -> None:
    settled = done(await worker.given_one(), output(OUT, b"x"))

    await worker.settle(settled)
    again = await worker.settle(settled)

    assert again.won == 0
    assert await bodies(redis, keys.edge(OUT)) == [b"x"]
    assert (await worker.balance()).ok == 1


async def test_a_batch_sent_again_one_by_one_appends_nothing(worker: Worker, keys: Keys, redis: Command) -> None:
    await worker.publish(*[b"%d" % n for n in range(20)])
    settled = [done(delivery, output(OUT, delivery.body)) for delivery in await worker.read()]

    await worker.settle(*settled)
    worker.broker.epoch += 1  # the reply was lost, and the connection with it
    again = await worker.settle(*settled)

    assert again.won == 0
    assert await bodies(redis, keys.edge(OUT)) == [b"%d" % n for n in range(20)]


async def test_a_batch_that_arrived_in_part_is_completed_one_by_one(worker: Worker, keys: Keys, redis: Command) -> None:
    await worker.publish(b"0", b"1", b"2")
    settled = [done(delivery, output(OUT, delivery.body)) for delivery in await worker.read()]
    await worker.settle(settled[1])

    worker.broker.epoch += 1
    receipt = await worker.settle(*settled)

    assert receipt.won == 2
    assert sorted(await bodies(redis, keys.edge(OUT))) == [b"0", b"1", b"2"]


async def test_what_was_read_before_a_connection_broke_is_settled_one_by_one(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    await worker.publish(b"0", b"1")
    first, second = await worker.read()
    await redis(b"XCLAIM", keys.edge(IN), b"flowq", other.name, 0, first.entry_id)
    await other.settle(done(replace(first, worker=other.name), output(OUT, b"by the other")))

    worker.broker.epoch += 1
    receipt = await worker.settle(done(first, output(OUT, b"late")), done(second, output(OUT, b"1")))

    assert receipt.won == 1
    assert await bodies(redis, keys.edge(OUT)) == [b"by the other", b"1"]


@pytest.mark.parametrize("settle", [retried, buried, released])
async def test_whatever_is_settled_twice_happens_once(settle: Settle, worker: Worker) -> None:
    settled = settle(await worker.given_one())

    assert (await worker.settle(settled)).won == 1
    worker.broker.epoch += 1
    assert (await worker.settle(settled)).won == 0

    balance = await worker.balance()
    assert (balance.entered, balance.outstanding + balance.dead) == (1, 1)


# By its owner


@pytest.mark.parametrize("settle", [done, filtered, retried, buried, released])
async def test_a_late_owner_changes_nothing_when_it_comes_first(
    settle: Settle, worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    late = await worker.given_one()
    new = await reclaim(other, worker, keys, redis)

    assert (await worker.settle(settle(late))).won == 0

    assert (await other.balance()).running == 1
    assert (await other.settle(*[done(delivery, output(OUT, b"new")) for delivery in new])).won == 1
    assert await bodies(redis, keys.edge(OUT)) == [b"new"]
    assert (await other.balance()).ok == 1


async def test_a_late_owner_changes_nothing_when_it_comes_last(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    late = await worker.given_one()
    new = await reclaim(other, worker, keys, redis)

    assert (await other.settle(*[done(delivery, output(OUT, b"new")) for delivery in new])).won == 1
    assert (await worker.settle(done(late, output(OUT, b"late")))).won == 0

    assert await bodies(redis, keys.edge(OUT)) == [b"new"]
    assert (await other.balance()).ok == 1


async def test_the_success_of_a_late_owner_does_not_slip_under_the_batch_of_the_new_one(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    late = await worker.given_one(b"late")
    new = [*await reclaim(other, worker, keys, redis), await other.given_one(b"fresh")]

    await worker.settle(done(late, output(OUT, b"late")))
    await other.settle(*[done(delivery, output(OUT, delivery.body)) for delivery in new])

    assert sorted(await bodies(redis, keys.edge(OUT))) == [b"fresh", b"late"]
    assert (await other.balance()).ok == 2


async def test_what_was_read_before_its_group_was_lost_is_the_next_readers(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    late = await worker.given_one(b"late")
    await redis(b"XGROUP", b"DESTROY", keys.edge(IN), b"flowq")
    await worker.read()
    await worker.publish(b"fresh")
    new = await other.read()

    await worker.settle(done(late, output(OUT, b"late")))
    await other.settle(*[done(delivery, output(OUT, delivery.body)) for delivery in new])

    assert sorted(await bodies(redis, keys.edge(OUT))) == [b"fresh", b"late"]


class Failover:
    """Leads to one server first, and later to another."""

    is_private = False

    def __init__(self, dialer: UrlDialer) -> None:
        self.leads_to = dialer
        self.url, self.address = dialer.url, dialer.address

    async def dial(self) -> Connection:
        return await self.leads_to.dial()


async def test_a_first_connection_after_a_failover_settles_nothing_in_a_batch_that_was_read_before_it(
    redis_url: str, keys: Keys
) -> None:
    old, new = UrlDialer(redis_url), UrlDialer(f"{redis_url}?db=1")
    for dialer in (old, new):
        link = Link(dialer)
        for n in (b"1", b"2"):
            await link.call(b"XADD", keys.edge(IN), n + b"-1", b"h", b"m%b - - 0" % n, b"b", n, timeout_seconds=5.0)
        await link.close()
    for name in ("first", "second"):  # as the replica has it: both are signed on, and nothing has been read
        await (await Worker.sign_on(new, keys, name)).close()
    failover = Failover(old)
    worker = await Worker.sign_on(failover, keys, "first")
    (late,) = await worker.read(1)
    await worker.settling.close()
    failover.leads_to = new
    other = await Worker.sign_on(new, keys, "second")
    given = await other.read()

    await worker.settle(done(late, output(OUT, late.body)))
    await other.settle(*[done(delivery, output(OUT, delivery.body)) for delivery in given])

    link = Link(new)
    entries = await link.call(b"XRANGE", keys.edge(OUT), b"-", b"+", timeout_seconds=5.0)
    assert [fields[3] for _, fields in entries] == [b"1", b"2"]
    for end in (link, worker, other):
        await end.close()


async def test_a_batch_of_a_worker_that_lost_its_name_claims_nothing_of_the_new_owner(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    await worker.publish(*[b"%d" % n for n in range(10)])
    deliveries = await worker.read()
    new = await reclaim(other, worker, keys, redis, limit=4)
    await other.settle(*[done(delivery, output(OUT, b"new")) for delivery in new])

    receipt = await worker.settle(*[done(delivery, output(OUT, b"late")) for delivery in deliveries])

    assert (receipt.sent, receipt.won) == (10, 6)
    assert sorted(await bodies(redis, keys.edge(OUT))) == [b"late"] * 6 + [b"new"] * 4


async def test_the_messages_of_one_batch_call_are_settled_all_or_none(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    await worker.publish(b"0", b"1", b"2")
    deliveries = await worker.read()
    (new,) = await reclaim(other, worker, keys, redis, limit=1)
    await other.settle(done(new, output(OUT, b"new")))

    unit = (deliveries, Ack([output(OUT, b"sum of three")], filtered=False))
    receipt = await worker.settle(unit)

    assert receipt.won == 0
    assert await bodies(redis, keys.edge(OUT)) == [b"new"]
    balance = await other.balance()
    assert (balance.ok, balance.running) == (1, 2)


# What follows


async def test_a_retry_waits_outside_the_stream_with_its_next_attempt(worker: Worker) -> None:
    delivery = await worker.given_one(b"body")

    await worker.settle(retried(delivery, delay_ms=0))

    assert (await worker.balance()).delayed == 1
    await worker.broker.promote([IN])
    again = await worker.read_one()
    assert (again.message_id, again.body, again.header.attempt) == (delivery.message_id, b"body", 2)
    assert again.header.first_ms == delivery.appended_ms
    assert (await worker.balance()).retries == 1


async def test_a_released_message_is_read_again_as_if_for_the_first_time(worker: Worker, other: Worker) -> None:
    delivery = await worker.given_one(b"body")

    await worker.settle(released(delivery))

    again = await other.read_one()
    assert (again.message_id, again.body, again.header.attempt) == (delivery.message_id, b"body", 1)
    assert (await other.balance()).running == 1


async def test_a_dead_letter_keeps_the_original_bytes_and_tells_why(worker: Worker) -> None:
    delivery = await worker.given_one(b"\xff\xfe not json")

    await worker.settle(buried(delivery, ValueError("no such page")))

    (letter,) = await worker.broker.dead_entries("parse")
    assert (letter.edge, letter.body, letter.header) == (IN, b"\xff\xfe not json", delivery.header_bytes)
    assert letter.info["reason"] == "rejected"
    assert letter.info["error"] == "ValueError: no such page"
    assert letter.info["attempts"] == 1
    assert letter.info["worker"] == worker.name


async def test_two_messages_of_one_name_can_be_delayed_at_once(worker: Worker, keys: Keys, redis: Command) -> None:
    await worker.publish(b"first")
    ((_, fields),) = await redis(b"XRANGE", keys.edge(IN), b"-", b"+")
    header = fields[1]
    await redis(b"XADD", keys.edge(IN), b"*", b"h", header, b"b", b"copied by hand")

    await worker.settle(*[retried(delivery, delay_ms=0) for delivery in await worker.read()])
    await worker.broker.promote([IN])

    assert sorted(delivery.body for delivery in await worker.read()) == [b"copied by hand", b"first"]


async def test_filtered_and_ok_are_counted_apart(worker: Worker) -> None:
    await worker.publish(b"0", b"1", b"2")
    first, second, third = await worker.read()

    await worker.settle(done(first), filtered(second), filtered(third))

    balance = await worker.balance()
    assert (balance.entered, balance.ok, balance.filtered) == (3, 1, 2)


async def test_an_output_seen_before_is_counted_instead_of_appended(
    sign_on: SignOn, keys: Keys, redis: Command
) -> None:
    worker = await sign_on("deduplicating", deduplicating=(OUT,))
    await worker.publish(b"0", b"1")
    first, second = await worker.read()

    await worker.settle(done(first, output(OUT, b"a", dedup="a"), output(OUT, b"a again", dedup="a")))
    await worker.settle(done(second, output(OUT, b"a once more", dedup="a"), output(OUT, b"b", dedup="b")))

    assert await bodies(redis, keys.edge(OUT)) == [b"a", b"b"]
    counters = (await worker.snapshot()).counters
    assert (counters[f"in:{OUT}"], counters[f"duplicates:{OUT}"], counters["out:parse"]) == (2, 2, 4)


async def test_an_output_of_a_settlement_that_was_not_won_is_not_remembered_as_seen(
    sign_on: SignOn, keys: Keys, redis: Command
) -> None:
    worker = await sign_on("deduplicating", deduplicating=(OUT,))
    await worker.publish(b"0", b"1")
    first, second = await worker.read()
    await redis(b"XACK", keys.edge(IN), b"flowq", first.entry_id)

    await worker.settle(done(first, output(OUT, b"a", dedup="a")))
    await worker.settle(done(second, output(OUT, b"a", dedup="a")))

    assert await bodies(redis, keys.edge(OUT)) == [b"a"]


async def test_a_delayed_output_waits_for_its_time(sign_on: SignOn) -> None:
    worker = await sign_on("deduplicating", deduplicating=(OUT,))
    delivery = await worker.given_one()

    receipt = await worker.settle(
        done(
            delivery,
            output(OUT, b"now", dedup="a"),
            output(OUT, b"later", dedup="b", delay_ms=60_000),
            output(OUT, b"later, again", dedup="b", delay_ms=60_000),
        )
    )

    state = (await worker.snapshot()).edges[OUT]
    assert (state.waiting, state.delayed, receipt.outstanding) == (1, 1, {OUT: 2})
    assert (await worker.snapshot()).counters[f"duplicates:{OUT}"] == 1


async def test_ten_thousand_outputs_of_one_message_are_appended_in_one_step(worker: Worker) -> None:
    delivery = await worker.given_one()

    await worker.settle(done(delivery, *[output(OUT, b"x")] * 10_000))

    assert (await worker.snapshot()).edges[OUT].waiting == 10_000


# What cannot be written


@pytest.mark.parametrize("wrong", ["edge", "seen", "delayed", "parked"])
async def test_an_output_key_of_the_wrong_type_refuses_the_settlement_and_changes_nothing(
    wrong: str, sign_on: SignOn, keys: Keys, redis: Command
) -> None:
    worker = await sign_on("deduplicating", deduplicating=(OUT,))
    delivery = await worker.given_one()
    key = {
        "edge": keys.edge(OUT), "seen": keys.seen("store"), "delayed": keys.delayed(OUT), "parked": keys.parked(OUT),
    }[wrong]  # fmt: skip
    await redis(b"DEL", key)
    await redis(b"SET", key, b"somebody else's")
    settled = done(delivery, output(OUT, b"x", dedup="x"))

    with pytest.raises(BrokerRefused, match="FLOWQ_WRONGTYPE"):
        await worker.settle(settled)

    assert await redis(b"XPENDING", keys.edge(IN), b"flowq", b"-", b"+", 10, worker.name)
    await redis(b"DEL", key)
    assert (await worker.settle(settled)).won == 1
    assert await bodies(redis, keys.edge(OUT)) == [b"x"]


async def test_a_dead_letter_key_of_the_wrong_type_loses_nothing(worker: Worker, keys: Keys, redis: Command) -> None:
    delivery = await worker.given_one()
    await redis(b"SET", keys.dead("parse"), b"somebody else's")

    with pytest.raises(BrokerRefused):
        await worker.settle(buried(delivery))

    await redis(b"DEL", keys.dead("parse"))
    assert (await worker.settle(buried(delivery))).won == 1


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot even say what is wrong")


@pytest.mark.parametrize("error", [ValueError("\ud800 of a broken file name"), Unprintable()], ids=["surrogate", "str"])
async def test_an_error_that_cannot_be_written_down_still_makes_a_dead_letter(error: Exception, worker: Worker) -> None:
    delivery = await worker.given_one()

    await worker.settle(buried(delivery, error))

    (letter,) = await worker.broker.dead_entries("parse")
    assert letter.info["reason"] == "rejected"
    assert letter.info["error_type"] == type(error).__name__


# Somebody else's entries


async def test_a_foreign_entry_is_settled_like_any_other_and_counted(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await redis(b"XADD", keys.edge(IN), b"7-7", b"b", b'{"n":7}')

    delivery = await worker.read_one()
    await worker.settle(done(delivery))

    assert (delivery.body, delivery.message_id) == (b'{"n":7}', ">parse:7-7")
    balance = await worker.balance()
    assert (balance.entered, balance.ok) == (1, 1)


@pytest.mark.parametrize("settle", [retried, released, buried])
async def test_a_foreign_entry_is_counted_once_however_often_it_runs(
    settle: Settle, worker: Worker, keys: Keys, redis: Command
) -> None:
    await redis(b"XADD", keys.edge(IN), b"*", b"b", b"1", b"trace", b"abc")

    await worker.settle(settle(await worker.read_one()))

    assert (await worker.balance()).entered == 1


async def test_a_foreign_entry_dies_with_all_its_fields(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"XADD", keys.edge(IN), b"*", b"b", b"body", b"trace", b"abc", b"zone", b"north")

    await worker.settle(buried(await worker.read_one()))

    (letter,) = await worker.broker.dead_entries("parse")
    assert (letter.body, letter.foreign) == (b"body", {b"trace": b"abc", b"zone": b"north"})


async def test_an_entry_without_any_known_field_dies_with_all_its_fields(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await redis(b"XADD", keys.edge(IN), b"*", b"payload", b"body", b"kind", b"order")

    await worker.settle(buried(await worker.read_one()))

    (letter,) = await worker.broker.dead_entries("parse")
    assert (letter.body, letter.foreign) == (None, {b"payload": b"body", b"kind": b"order"})
    balance = await worker.balance()
    assert (balance.entered, balance.dead) == (1, 1)


async def test_an_entry_with_more_fields_than_lua_can_pass_on_is_not_lost(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    fields = [part for n in range(9000) for part in (b"f%d" % n, b"v")]
    await redis(b"XADD", keys.edge(IN), b"*", b"b", b"body", *fields)

    await worker.settle(buried(await worker.read_one()))

    (letter,) = await worker.broker.dead_entries("parse")
    assert letter.body == b"body"
    assert letter.foreign[b"f0"] == b"v"


async def test_a_message_deleted_by_hand_while_it_ran_is_settled_with_its_outputs(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    delivery = await worker.given_one()
    await redis(b"XDEL", keys.edge(IN), delivery.entry_id)

    assert (await worker.settle(done(delivery, output(OUT, b"x")))).won == 1

    assert (await worker.balance()).ok == 1


@pytest.mark.parametrize("settle", [retried, released, buried])
async def test_a_message_deleted_by_hand_that_cannot_be_kept_becomes_a_dead_letter(
    settle: Settle, worker: Worker, keys: Keys, redis: Command
) -> None:
    delivery = await worker.given_one()
    await redis(b"XDEL", keys.edge(IN), delivery.entry_id)

    assert (await worker.settle(settle(delivery))).won == 1

    (letter,) = await worker.broker.dead_entries("parse")
    assert letter.body is None
    assert (await worker.balance()).dead == 1


# Servers that forget


@pytest.mark.parametrize("settle", [done, retried, buried, released])
@pytest.mark.parametrize("gone", ["group", "stream", "everything"])
async def test_settling_what_redis_no_longer_knows_changes_nothing(
    settle: Settle, gone: str, worker: Worker, keys: Keys, redis: Command
) -> None:
    delivery = await worker.given_one()
    match gone:
        case "group":
            await redis(b"XGROUP", b"DESTROY", keys.edge(IN), b"flowq")
        case "stream":
            await redis(b"DEL", keys.edge(IN))
        case _:
            await redis(b"DEL", keys.edge(IN), keys.workers, keys.stats, keys.lease(worker.name))

    assert (await worker.settle(settle(delivery))).won == 0


async def test_a_script_that_redis_has_forgotten_is_given_to_it_again(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await worker.settle(done(await worker.given_one()))
    await redis(b"SCRIPT", b"FLUSH")

    assert (await worker.settle(done(await worker.given_one()))).won == 1


async def test_the_letter_of_a_message_without_a_header_is_readable_json(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await redis(b"XADD", keys.edge(IN), b"*", b"b", b"body")

    await worker.settle(buried(await worker.read_one()))

    ((_, fields),) = await redis(b"XRANGE", keys.dead("parse"), b"-", b"+")
    assert json.loads(fields[fields.index(b"x") + 1])["reason"] == "rejected"
