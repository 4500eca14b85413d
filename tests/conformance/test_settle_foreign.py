"""Somebody else's entries, and those that somebody deleted: settled, counted and kept like any other."""

from __future__ import annotations

import pytest

from flowq.broker.keys import Keys
from tests.conformance.conftest import Command
from tests.conformance.worker import IN, OUT, Settle, Worker, buried, done, output, released, retried


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
