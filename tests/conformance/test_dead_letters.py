"""Dead letters are stored complete, and put back once."""

from __future__ import annotations

import asyncio

import pytest

from flowq.broker.keys import Keys
from flowq.broker.records import DeadEntry
from flowq.broker.runs import Runs
from flowq.dead_letters.stored_letters import StoredLetters, WayBack
from flowq.delivery.message import Header
from flowq.delivery.settlement import DeadLetter
from flowq.errors import BrokerRefused
from tests.conformance.conftest import Command
from tests.conformance.worker import EDGES, IN, STAGES, Worker, buried, done


async def bury_one(worker: Worker, body: bytes = b"body") -> DeadEntry:
    """A message that died, as it lies among the dead letters."""
    delivery = await worker.given_one(body)
    await worker.settle(buried(delivery))
    return (await StoredLetters(worker.broker, "parse").read())[-1]


def way_back(letter: DeadEntry) -> WayBack:
    header = Header.decode(letter.header) if letter.header else Header.entering(f"{IN}:{letter.entry_id}")
    return WayBack(letter.entry_id, header.replayed().encode(), str(letter.info.get("run", "")))


async def begin(worker: Worker, run_id: str) -> None:
    worker.broker.run_id = run_id
    await Runs(worker.broker).begin(run_id, sources=(), signature="", edges=EDGES, stages=STAGES)


async def test_a_letter_put_back_is_the_same_message_with_its_attempts_counted_anew(worker: Worker) -> None:
    delivery = await worker.given_one(b"body")
    again = delivery._replace(header_bytes=delivery.header.encode() + b" a=5")
    await worker.settle(((again,), DeadLetter("attempts exhausted", None, again.header)))
    (letter,) = await StoredLetters(worker.broker, "parse").read()
    assert letter.info["attempts"] == 5

    assert await StoredLetters(worker.broker, "parse").put_back(IN, [way_back(letter)]) == 1

    back = await worker.read_one()
    assert (back.message_id, back.body, back.header.attempt) == (delivery.message_id, b"body", 1)
    assert await StoredLetters(worker.broker, "parse").read() == []


async def test_the_same_replay_again_puts_nothing_back(worker: Worker) -> None:
    letter = await bury_one(worker)

    assert await StoredLetters(worker.broker, "parse").put_back(IN, [way_back(letter)]) == 1
    assert await StoredLetters(worker.broker, "parse").put_back(IN, [way_back(letter)]) == 0

    assert (await worker.balance()).waiting == 1


async def test_two_people_who_replay_at_once_put_each_letter_back_once(worker: Worker, other: Worker) -> None:
    letters = [way_back(await bury_one(worker, b"%d" % n)) for n in range(20)]

    counts = await asyncio.gather(
        *(
            StoredLetters(person.broker, "parse").put_back(IN, letters[n : n + 5])
            for n in range(0, 20, 5)
            for person in (worker, other)
        )
    )

    assert sum(counts) == 20
    assert sorted(int(delivery.body) for delivery in await worker.read()) == list(range(20))


@pytest.mark.parametrize("later", [False, True], ids=["in the same run", "in a later run"])
async def test_the_balance_adds_up_through_death_and_replay(later: bool, worker: Worker) -> None:
    await begin(worker, "r1")
    letter = await bury_one(worker)
    if later:
        await begin(worker, "r2")

    await StoredLetters(worker.broker, "parse").put_back(IN, [way_back(letter)])

    balance = await worker.balance()
    assert (balance.entered, balance.dead, balance.waiting) == (1, 0, 1)
    await worker.settle(done(await worker.read_one()))
    balance = await worker.balance()
    assert (balance.entered, balance.ok) == (1, 1)


@pytest.mark.parametrize("fields", [{b"b": b"1"}, {b"b": b"1", b"trace": b"abc"}, {b"payload": b"1"}], ids=repr)
async def test_a_foreign_entry_is_counted_once_through_death_and_replay(
    fields: dict[bytes, bytes], worker: Worker, keys: Keys, redis: Command
) -> None:
    await redis(b"XADD", keys.edge(IN), b"*", *[part for pair in fields.items() for part in pair])
    await worker.settle(buried(await worker.read_one()))
    (letter,) = await StoredLetters(worker.broker, "parse").read()

    await StoredLetters(worker.broker, "parse").put_back(IN, [way_back(letter)])

    back = await worker.read_one()
    assert back.body == fields.get(b"b", b"")
    await worker.settle(buried(back))
    balance = await worker.balance()
    assert (balance.entered, balance.dead) == (1, 1)
    (letter,) = await StoredLetters(worker.broker, "parse").read()
    assert letter.foreign == {name: value for name, value in fields.items() if name != b"b"}


async def test_an_edge_of_the_wrong_type_keeps_the_letter(worker: Worker, keys: Keys, redis: Command) -> None:
    letter = await bury_one(worker)
    await redis(b"DEL", keys.edge(IN))
    await redis(b"SET", keys.edge(IN), b"somebody else's")

    with pytest.raises(BrokerRefused):
        await StoredLetters(worker.broker, "parse").put_back(IN, [way_back(letter)])

    assert len(await StoredLetters(worker.broker, "parse").read()) == 1


async def test_letters_are_read_in_pages_in_the_order_in_which_they_died(worker: Worker) -> None:
    for n in range(5):
        await bury_one(worker, b"%d" % n)

    first = await StoredLetters(worker.broker, "parse").read(limit=3)
    rest = await StoredLetters(worker.broker, "parse").read(after=first[-1].entry_id, limit=3)

    assert [letter.body for letter in (*first, *rest)] == [b"%d" % n for n in range(5)]


async def test_a_dead_letter_of_another_program_is_listed_as_well(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"XADD", keys.dead("parse"), b"*", b"anything", b"at all", b"x", b"{not json")

    (letter,) = await StoredLetters(worker.broker, "parse").read()

    assert letter.info["reason"] == "unknown"


# What dies after it was acknowledged


async def test_what_fails_after_it_was_acknowledged_is_dead_instead_of_ok(worker: Worker) -> None:
    delivery = await worker.given_one(b"body")
    await worker.settle(done(delivery))

    await StoredLetters(worker.broker, "parse").bury(
        delivery, DeadLetter("failed", ValueError("late"), delivery.header)
    )

    balance = await worker.balance()
    assert (balance.ok, balance.dead) == (0, 1)
    (letter,) = await StoredLetters(worker.broker, "parse").read()
    assert (letter.body, letter.edge, letter.info["error"]) == (b"body", IN, "ValueError: late")


async def test_burying_twice_because_a_reply_was_lost_adds_one_letter(worker: Worker) -> None:
    delivery = await worker.given_one()
    await worker.settle(done(delivery))
    letter = DeadLetter("failed", None, delivery.header)

    await StoredLetters(worker.broker, "parse").bury(delivery, letter)
    await StoredLetters(worker.broker, "parse").bury(delivery, letter)

    balance = await worker.balance()
    assert (balance.ok, balance.dead) == (0, 1)
    assert len(await StoredLetters(worker.broker, "parse").read()) == 1


async def test_a_message_that_dies_again_after_a_replay_is_buried_again(worker: Worker) -> None:
    delivery = await worker.given_one()
    await worker.settle(done(delivery))
    await StoredLetters(worker.broker, "parse").bury(delivery, DeadLetter("failed", None, delivery.header))
    (letter,) = await StoredLetters(worker.broker, "parse").read()
    await StoredLetters(worker.broker, "parse").put_back(IN, [way_back(letter)])
    again = await worker.read_one()
    await worker.settle(done(again))

    await StoredLetters(worker.broker, "parse").bury(again, DeadLetter("failed", None, again.header))

    balance = await worker.balance()
    assert (balance.ok, balance.dead) == (0, 1)
    assert len(await StoredLetters(worker.broker, "parse").read()) == 1
