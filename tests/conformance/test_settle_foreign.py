"""Entries of other programs, and deleted entries, are settled, counted and kept like any other."""

from __future__ import annotations

import pytest

from flowq.broker.edges import Edges
from flowq.broker.inspection.browse import Browser
from flowq.broker.keys import Keys
from flowq.broker.records import pairs
from flowq.broker.settling import Settled
from flowq.dead_letters.stored_letters import StoredLetters, WayBack
from flowq.delivery.message import Delivery, Header
from flowq.delivery.settlement import Delay
from tests.conformance.conftest import Command
from tests.conformance.worker import IN, OUT, Settle, Worker, buried, done, output, released, retried


async def test_a_foreign_entry_is_settled_like_any_and_counted(worker: Worker, keys: Keys, redis: Command) -> None:
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


def queued(delivery: Delivery) -> Settled:
    return (delivery,), Delay(delivery.retried(counted=False), 1, counted=False, queue_key="k")


@pytest.mark.parametrize(
    "fields", [(b"kind", b"odd \n 3:7"), (b"flowq:further", b"1:x", b"h", b"not a header", b"", b"")]
)
@pytest.mark.parametrize("settle", [retried, released, queued])
async def test_a_foreign_entry_that_waits_again_keeps_all_its_fields(
    settle: Settle, fields: tuple[bytes, ...], worker: Worker, keys: Keys, redis: Command
) -> None:
    await redis(b"XADD", keys.edge(IN), b"*", b"b", b"body\n", *fields)

    await worker.settle(settle(await worker.read_one()))
    for name in await redis(b"ZRANGE", keys.delayed(IN), 0, -1):
        await redis(b"ZADD", keys.delayed(IN), 1, name)
    _, sights = await Browser(worker.broker).peek([IN], most=9)
    assert [sight.delivery.body for sight in sights] == [b"body\n"]
    await Edges(worker.broker).promote([IN], limit=9)
    delivery = await worker.read_one()
    assert delivery.body == b"body\n"
    await worker.settle(buried(delivery))

    (letter,) = await StoredLetters(worker.broker, "parse").read()
    further = {name: value for name, value in pairs(fields) if name != b"h"}
    assert (letter.body, letter.foreign) == (b"body\n", further)
    assert (await worker.balance()).entered == 1


async def test_a_foreign_letter_going_back_later_keeps_its_fields(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"XADD", keys.edge(IN), b"*", b"b", b"body", b"kind", b"odd")
    await worker.settle(buried(await worker.read_one()))
    (letter,) = await StoredLetters(worker.broker, "parse").read()

    header = Header.entering("x").encode()
    await StoredLetters(worker.broker, "parse").put_back(IN, [WayBack(letter.entry_id, header, "", delay_ms=1)])
    while not (await Edges(worker.broker).promote([IN], limit=9))[0]:
        pass
    await worker.settle(buried(await worker.read_one()))

    (letter,) = await StoredLetters(worker.broker, "parse").read()
    assert (letter.body, letter.foreign) == (b"body", {b"kind": b"odd"})


async def test_an_entry_without_known_fields_dies_with_all_of_them(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"XADD", keys.edge(IN), b"*", b"payload", b"body", b"kind", b"order")

    await worker.settle(buried(await worker.read_one()))

    (letter,) = await StoredLetters(worker.broker, "parse").read()
    assert (letter.body, letter.foreign) == (None, {b"payload": b"body", b"kind": b"order"})
    balance = await worker.balance()
    assert (balance.entered, balance.dead) == (1, 1)


async def test_an_entry_with_too_many_fields_for_lua_is_not_lost(worker: Worker, keys: Keys, redis: Command) -> None:
    fields = [part for n in range(9000) for part in (b"f%d" % n, b"v")]
    await redis(b"XADD", keys.edge(IN), b"*", b"b", b"body", *fields)

    await worker.settle(buried(await worker.read_one()))

    (letter,) = await StoredLetters(worker.broker, "parse").read()
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

    (letter,) = await StoredLetters(worker.broker, "parse").read()
    assert letter.body is None
    assert (await worker.balance()).dead == 1
