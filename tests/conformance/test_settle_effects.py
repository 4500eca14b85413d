"""The effects of a settlement happen in its step, and if something cannot be written, nothing happens."""

from __future__ import annotations

import pytest

from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.dead_letters.stored_letters import StoredLetters
from flowq.errors import BrokerRefused
from tests.conformance.conftest import Command, SignOn
from tests.conformance.streams import bodies
from tests.conformance.worker import IN, OUT, Worker, buried, done, filtered, output, released, retried


async def test_a_retry_waits_outside_the_stream_with_its_next_attempt(worker: Worker) -> None:
    delivery = await worker.given_one(b"body")

    await worker.settle(retried(delivery, delay_ms=0))

    assert (await worker.balance()).delayed == 1
    await Edges(worker.broker).promote([IN])
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

    (letter,) = await StoredLetters(worker.broker, "parse").read()
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
    await Edges(worker.broker).promote([IN])

    assert sorted(delivery.body for delivery in await worker.read()) == [b"copied by hand", b"first"]


async def test_filtered_and_ok_are_counted_apart(worker: Worker) -> None:
    await worker.publish(b"0", b"1", b"2")
    first, second, third = await worker.read()

    await worker.settle(done(first), filtered(second), filtered(third))

    balance = await worker.balance()
    assert (balance.entered, balance.ok, balance.filtered) == (3, 1, 2)


async def test_an_output_seen_before_is_counted_not_appended(sign_on: SignOn, keys: Keys, redis: Command) -> None:
    worker = await sign_on("deduplicating", deduplicating=(OUT,))
    await worker.publish(b"0", b"1")
    first, second = await worker.read()

    await worker.settle(done(first, output(OUT, b"a", dedup="a"), output(OUT, b"a again", dedup="a")))
    await worker.settle(done(second, output(OUT, b"a once more", dedup="a"), output(OUT, b"b", dedup="b")))

    assert await bodies(redis, keys.edge(OUT)) == [b"a", b"b"]
    counters = (await worker.snapshot()).counters
    assert (counters[f"in:{OUT}"], counters[f"duplicates:{OUT}"], counters["out:parse"]) == (2, 2, 4)


async def test_outputs_of_many_deliveries_with_one_value_enter_once_and_those_without_a_key_always(
    sign_on: SignOn, keys: Keys, redis: Command
) -> None:
    worker = await sign_on("deduplicating", deduplicating=(OUT,))
    await worker.publish(b"0", b"1", b"2")
    menu = [output(OUT, b"menu %d" % n, dedup=f"menu {n}") for n in range(3)]
    deliveries = await worker.read()

    await worker.settle(*[done(each, *menu, output(OUT, b"no key"), output(OUT, b"no key")) for each in deliveries])

    assert sorted(await bodies(redis, keys.edge(OUT))) == [b"menu 0", b"menu 1", b"menu 2", *[b"no key"] * 6]
    counters = (await worker.snapshot()).counters
    assert (counters[f"in:{OUT}"], counters[f"duplicates:{OUT}"], counters["out:parse"]) == (9, 6, 15)


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


@pytest.mark.parametrize("wrong", ["edge", "seen", "delayed", "parked"])
async def test_an_output_key_of_the_wrong_type_refuses_the_settlement_and_changes_nothing(
    wrong: str, sign_on: SignOn, keys: Keys, redis: Command
) -> None:
    worker = await sign_on("deduplicating", deduplicating=(OUT,))
    delivery = await worker.given_one()
    key = {
        "edge": keys.edge(OUT),
        "seen": keys.seen("store"),
        "delayed": keys.delayed(OUT),
        "parked": keys.delayed_bodies(OUT),
    }[wrong]
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

    (letter,) = await StoredLetters(worker.broker, "parse").read()
    assert letter.info["reason"] == "rejected"
    assert letter.info["error_type"] == type(error).__name__
