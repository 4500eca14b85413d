"""A stage with keep= stores settled messages up to its limits, and each can be run again once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flowq.broker.entries import Entries
from flowq.broker.records import DeadEntry
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs, balance_of
from flowq.broker.settling import Settling
from flowq.dead_letters.condition import Condition
from flowq.dead_letters.kept import Kept, NotKept
from flowq.dead_letters.lineage import Lineage
from flowq.delivery.message import Delivery
from flowq.delivery.policy import Keep
from flowq.graph.compilation.plan import Plan
from tests.conformance.conftest import Command
from tests.conformance.worker import IN, PLAN, Worker, buried, done, filtered, retried


def keeping(keep: Keep) -> Plan:
    """The plan of the laboratory, with a stage `parse` that keeps so much."""
    return replace(
        PLAN,
        stages=tuple(replace(stage, keep=keep) if stage.name == "parse" else stage for stage in PLAN.stages),
    )


LAST_HOUR = keeping(Keep(1000, 3_600_000))


async def kept_entries(broker: Broker) -> list[DeadEntry]:
    return await Entries(broker, broker.keys.kept("parse")).after("", limit=1000, bodies="all")


@pytest.fixture
async def keeper(worker: Worker) -> Worker:
    """A worker of the stage that keeps the last hour."""
    await worker.settling.close()
    worker.settling = Settling(worker.broker, {}, LAST_HOUR.keeping)
    return worker


async def settle(keeper: Worker, *numbers: int) -> list[Delivery]:
    """Messages that have been settled well."""
    await keeper.publish(*(b'{"n":%d}' % n for n in numbers))
    deliveries = await keeper.read()
    await keeper.settle(*map(done, deliveries))
    return deliveries


async def test_what_succeeded_and_what_was_filtered_is_kept_and_nothing_else(keeper: Worker) -> None:
    await keeper.publish(b"1", b"2", b"3", b"4")
    one, two, three, four = await keeper.read()

    await keeper.settle(done(one), filtered(two), retried(three), buried(four))

    kept = await kept_entries(keeper.broker)
    assert [(entry.header, entry.body) for entry in kept] == [(one.header_bytes, b"1"), (two.header_bytes, b"2")]


async def test_a_stage_without_keep_keeps_nothing(worker: Worker, redis: Command) -> None:
    await settle(worker, 1, 2)

    assert await redis(b"EXISTS", worker.broker.keys.kept("parse")) == 0
    with pytest.raises(NotKept, match="parse does not keep settled messages"):
        Kept(PLAN, worker.broker, "parse")


async def test_a_settlement_sent_twice_keeps_once(keeper: Worker) -> None:
    await keeper.publish(b"1")
    delivery = await keeper.read_one()

    await keeper.settle(done(delivery))
    await keeper.settle(done(delivery))

    assert len(await kept_entries(keeper.broker)) == 1


async def test_no_more_is_kept_than_was_asked_for(worker: Worker) -> None:
    settling = Settling(worker.broker, {}, keeping(Keep(200)).keeping)
    for _ in range(6):
        await worker.publish(*(b"%d" % n for n in range(200)))
        await worker.settle(*map(done, await worker.read(200)), by=settling)
    await settling.close()

    # Redis trims whole nodes of 100 entries.
    assert 200 <= len(await kept_entries(worker.broker)) <= 300


async def test_what_is_older_than_was_asked_for_is_dropped(worker: Worker, redis: Command) -> None:
    settling = Settling(worker.broker, {}, keeping(Keep(100_000, 60_000)).keeping)
    for n in range(300):
        await redis(b"XADD", worker.broker.keys.kept("parse"), b"%d-1" % (n + 1), b"b", b"old")
    await worker.publish(b"1")
    await worker.settle(done(await worker.read_one()), by=settling)
    await settling.close()

    assert len(await kept_entries(worker.broker)) <= 101


async def test_kept_messages_run_again_with_their_ids_and_once_however_often_they_are_asked_for(keeper: Worker) -> None:
    first = await settle(keeper, 1, 2, 3)
    kept = Kept(LAST_HOUR, keeper.broker, "parse")
    assert await kept.replay(dry_run=True) == 3

    assert await kept.replay() == 3
    assert await kept.replay() == 0

    again = await keeper.read()
    assert [delivery.message_id for delivery in again] == [delivery.message_id for delivery in first]
    balance = await keeper.balance()
    assert (balance.entered, balance.ok, balance.running) == (6, 3, 3)
    await keeper.settle(*map(done, again))
    assert await kept.replay(dry_run=True) == 3
    assert balance_of(PLAN, await keeper.snapshot())["parse"].adds_up


async def test_a_replay_is_narrowed_down_by_time_content_and_number(keeper: Worker) -> None:
    await settle(keeper, *range(6))
    kept, now = Kept(LAST_HOUR, keeper.broker, "parse"), datetime.now(UTC)

    assert await kept.replay(since=now + timedelta(hours=1)) == 0
    assert await kept.replay(since=now - timedelta(hours=1), where=[Condition.parse("n>=2")], limit=3) == 3

    assert [delivery.body for delivery in await keeper.read()] == [b'{"n":2}', b'{"n":3}', b'{"n":4}']


async def test_a_kept_message_is_traced_as_done(keeper: Worker) -> None:
    (delivery,) = await settle(keeper, 1)

    ((_, name, (place,)),) = (await Lineage.of(LAST_HOUR, keeper.broker, delivery.message_id)).tree()

    assert (name, place.state, place.place) == (delivery.message_id, "done", "parse")


async def test_a_fresh_run_forgets_what_was_kept(keeper: Worker) -> None:
    await settle(keeper, 1)

    await Runs(keeper.broker).begin("r2", sources=(), signature="", edges=[IN], stages=["parse"], fresh=True)

    assert await kept_entries(keeper.broker) == []
