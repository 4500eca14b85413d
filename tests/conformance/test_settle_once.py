"""Settling happens once: sent again, sent in part, or to a server that has lost its data."""

from __future__ import annotations

import json

import pytest

from flowq.broker.keys import Keys
from tests.conformance.conftest import Command
from tests.conformance.streams import bodies
from tests.conformance.worker import IN, OUT, Settle, Worker, buried, done, output, released, retried


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
    await other.settle(
        done(first._replace(arrival=first.arrival._replace(worker=other.name)), output(OUT, b"by the other"))
    )

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


async def test_a_script_that_redis_forgot_is_given_to_it_again(worker: Worker, keys: Keys, redis: Command) -> None:
    await worker.settle(done(await worker.given_one()))
    await redis(b"SCRIPT", b"FLUSH")

    assert (await worker.settle(done(await worker.given_one()))).won == 1


async def test_the_letter_of_a_message_without_header_is_valid_json(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"XADD", keys.edge(IN), b"*", b"b", b"body")

    await worker.settle(buried(await worker.read_one()))

    ((_, fields),) = await redis(b"XRANGE", keys.dead("parse"), b"-", b"+")
    assert json.loads(fields[fields.index(b"x") + 1])["reason"] == "rejected"
