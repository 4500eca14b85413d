"""An entry of 9,000 fields, more than a script can pass on directly, keeps every byte wherever it goes."""

from __future__ import annotations

import flowq
from flowq.broker.keys import GROUP, Keys
from flowq.broker.migration.moving import Moving
from flowq.broker.records import deliveries_of
from flowq.broker.settling import Settling
from flowq.broker.workers import Workers
from flowq.dead_letters.kept import Kept
from flowq.dead_letters.purging import Purging
from flowq.dead_letters.stored_letters import StoredLetters, WayBack
from flowq.delivery.dead_letter import CRASHES_BEFORE_BURIAL
from flowq.delivery.policy import Keep
from tests.conformance.conftest import Command, SignOn
from tests.conformance.worker import IN, PLAN, Worker, buried, done, parse, released

NEW = ">tidy"
FIELDS = {b"name %d \r\n\x00\xff" % i: b"value %d: 7:" % i for i in range(9000)}
WHOLE = {**FIELDS, b"b": b'{"n":7}'}


async def added(redis: Command, keys: Keys, *, first: bytes = b"an earlier body") -> None:
    """The entry, on the inlet of `parse`. Its body comes early, and twice: of equal names the last one counts."""
    flat = [word for item in FIELDS.items() for word in item]
    await redis(b"XADD", keys.edge(IN), b"*", b"b", first, b"b", WHOLE[b"b"], *flat)


async def letter_of(worker: Worker, stage: str = "parse") -> dict[bytes, bytes]:
    (letter,) = await StoredLetters(worker.broker, stage).read()
    return {**letter.foreign, b"b": letter.body or b""}


async def test_it_moves_to_another_edge(worker: Worker, other: Worker, keys: Keys, redis: Command) -> None:
    await worker.publish(b"before")
    await added(redis, keys)
    await worker.publish(b"behind")
    for name in (worker.name, other.name):
        await redis(b"DEL", keys.lease(name))

    assert await Moving(worker.broker).edge(IN, NEW) == 3

    entries = await redis(b"XRANGE", keys.edge(NEW), b"-", b"+")
    deliveries = deliveries_of(NEW, entries, "", 0)
    assert [delivery.body for delivery in deliveries] == [b"before", WHOLE[b"b"], b"behind"]
    assert deliveries[1].foreign == WHOLE
    assert await redis(b"XLEN", keys.edge(IN)) == 0


async def test_it_dies_goes_back_dies_again_moves_with_its_stage(worker: Worker, keys: Keys, redis: Command) -> None:
    await added(redis, keys)
    await worker.settle(buried(await worker.read_one()))
    assert await letter_of(worker) == WHOLE

    (letter,) = await StoredLetters(worker.broker, "parse").read()
    assert await StoredLetters(worker.broker, "parse").put_back(IN, [WayBack(letter.entry_id, letter.header, "")]) == 1
    delivery = await worker.read_one()
    assert delivery.body == WHOLE[b"b"]
    await worker.settle(released(delivery))
    await worker.settle(buried(await worker.read_one()))
    assert await letter_of(worker) == WHOLE

    await Moving(worker.broker).stage("parse", "tidy", {IN: NEW})
    assert await letter_of(worker, "tidy") == WHOLE


async def test_it_is_buried_after_crashes(worker: Worker, sign_on: SignOn, keys: Keys, redis: Command) -> None:
    await added(redis, keys)
    for n in range(CRASHES_BEFORE_BURIAL):
        victim = await sign_on(f"victim {n}")
        if n == 0:
            await victim.read_one()
        else:
            (held,) = await worker.reader.own_pending(worker.name)
            await redis(b"XCLAIM", keys.edge(IN), GROUP, victim.name, 0, held.entry_id)
        await redis(b"DEL", keys.lease(victim.name))
        await Workers(worker.broker).reclaim(IN, victim.name, worker.name, limit=9, crashed="killed")

    assert await letter_of(worker) == WHOLE
    assert (await worker.balance()).entered == 1


async def test_it_is_kept_and_runs_again(worker: Worker, keys: Keys, redis: Command) -> None:
    await added(redis, keys)
    keeping = Settling(worker.broker, {}, {"parse": Keep(10)})
    await keeping.connect()
    await worker.settle(done(await worker.read_one()), by=keeping)
    await keeping.close()

    assert await Kept(flowq.Pipeline("lab", parse.options(keep=10)).plan, worker.broker, "parse").replay() == 1

    await worker.settle(buried(await worker.read_one()))
    assert await letter_of(worker) == WHOLE


async def test_it_is_purged(worker: Worker, keys: Keys, redis: Command) -> None:
    await added(redis, keys)

    assert await Purging(worker.broker).purge([PLAN.edge_by_name[IN]], {"parse": 9}) == {"parse": 1}

    balance = await worker.balance()
    assert (balance.entered, balance.outstanding) == (1, 0)
