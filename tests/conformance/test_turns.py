"""Pacing keys: turns, slots, queues and paces, as every server must keep them."""

from __future__ import annotations

from flowq.broker.keys import Keys
from flowq.broker.turns import Turn
from flowq.delivery.policy import Rate
from tests.conformance.conftest import Command
from tests.conformance.paced import FAST, QUEUES, asked, done, given, sent_to_queue, turns
from tests.conformance.worker import IN, Worker

# Turns


async def test_turns_of_one_key_lie_an_interval_apart_over_all_workers(worker: Worker, other: Worker) -> None:
    deliveries = await given(worker, 4)
    rate = Rate(1, per=1000)

    first = await asked(turns(worker, rate), worker, *deliveries[:2])
    second = await asked(turns(other, rate), other, *deliveries[2:])

    waits = [turn.wait_seconds for turn in (*first, *second)]
    assert waits[0] == 0
    assert [round(wait, -1) for wait in waits[1:]] == [1000, 2000, 3000]


async def test_a_burst_may_start_at_once_and_keys_do_not_wait_for_each_other(worker: Worker) -> None:
    deliveries = await given(worker, 5)
    paced = turns(worker, Rate(1, per=1000, burst=3))

    waits = [turn.wait_seconds for turn in await asked(paced, worker, *deliveries)]

    assert [wait == 0 for wait in waits] == [True, True, True, False, False]
    assert await asked(paced, worker, deliveries[4], key="b") == [Turn()]


# Slots


async def test_no_more_of_a_key_have_a_slot_than_may_run_at_once(worker: Worker, other: Worker) -> None:
    deliveries = await given(worker, 5)
    mine, theirs = (turns(who, Rate(FAST, concurrency=2)) for who in (worker, other))

    assert await asked(mine, worker, deliveries[0]) == [Turn()]
    assert [turn.queues for turn in await asked(theirs, other, *deliveries[1:4])] == [False, True, True]
    assert not (await asked(mine, worker, deliveries[4], key="b"))[0].queues

    await mine.call([done(worker, deliveries[0])], [], sweep=False)
    assert [turn.queues for turn in await asked(theirs, other, *deliveries[2:4])] == [False, True]


async def test_giving_a_slot_back_twice_gives_back_one(worker: Worker) -> None:
    deliveries = await given(worker, 4)
    paced = turns(worker, Rate(FAST, concurrency=2))
    await asked(paced, worker, *deliveries[:2])

    for _ in range(2):
        await paced.call([done(worker, deliveries[0])], [], sweep=False)

    assert [turn.queues for turn in await asked(paced, worker, *deliveries[2:])] == [False, True]


async def test_the_slots_of_a_worker_lapse_with_its_registration(worker: Worker, other: Worker) -> None:
    deliveries = await given(worker, 3)
    rate = Rate(FAST, concurrency=1)
    await asked(turns(other, rate), other, deliveries[0])
    assert await asked(turns(worker, rate), worker, deliveries[1]) == [QUEUES]

    await other.broker.retire(other.name, [IN])

    assert not (await asked(turns(worker, rate), worker, deliveries[1]))[0].queues
    assert await asked(turns(worker, rate), worker, deliveries[2]) == [QUEUES]


# Queues


async def test_who_queues_is_delayed_and_is_called_in_order_when_a_slot_is_free(worker: Worker) -> None:
    first, *rest = await given(worker, 4)
    paced = turns(worker, Rate(FAST, concurrency=1))
    await asked(paced, worker, first)
    for delivery in rest:
        await sent_to_queue(worker, delivery)

    assert (await worker.balance()).delayed == 3
    assert (await worker.broker.promote([IN]))[0] == 0
    assert await paced.call([], ["a"], sweep=True) == []
    assert await worker.read() == []

    await paced.call([done(worker, first)], [], sweep=False)

    (called,) = await worker.read()
    assert (called.message_id, called.body, called.header.attempt) == (rest[0].message_id, rest[0].body, 1)
    balance = await worker.balance()
    assert (balance.delayed, balance.running, balance.retries) == (2, 2, 0)


async def test_a_sweep_calls_those_whom_nobody_else_would(worker: Worker, other: Worker) -> None:
    deliveries = await given(worker, 3)
    rate = Rate(FAST, concurrency=1)
    await asked(turns(other, rate), other, deliveries[0])
    await sent_to_queue(worker, deliveries[1])
    await sent_to_queue(worker, deliveries[2], key="a longer key")
    await other.broker.retire(other.name, [IN])

    await turns(worker, rate).call([], [], sweep=True)

    assert {called.message_id for called in await worker.read()} == {item.message_id for item in deliveries[1:]}


async def test_a_key_that_begins_like_another_has_slots_and_a_queue_of_its_own(worker: Worker) -> None:
    deliveries = await given(worker, 3)
    paced = turns(worker, Rate(FAST, concurrency=1))
    await asked(paced, worker, deliveries[0], key="host")
    await sent_to_queue(worker, deliveries[1], key="host")

    assert await asked(paced, worker, deliveries[2], key="host:80") == [Turn()]
    await paced.call([done(worker, deliveries[2], key="host:80")], [], sweep=False)

    assert await worker.read() == []


async def test_a_queue_survives_a_message_that_was_deleted_by_hand(worker: Worker, keys: Keys, redis: Command) -> None:
    first, second = await given(worker, 2)
    await sent_to_queue(worker, first)
    await sent_to_queue(worker, second)
    await redis(b"ZREM", keys.delayed(IN), first.message_id)
    await redis(b"HDEL", keys.parked(IN), first.message_id)

    await turns(worker, Rate(FAST)).call([], ["a"], sweep=False)

    assert [called.message_id for called in await worker.read()] == [second.message_id]


# Adapting


async def test_a_key_slows_down_and_speeds_up_by_the_rule_of_autothrottle(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    interval, concurrency, longest = 0.1, 2, 60.0
    paced = turns(worker, Rate(10, concurrency=concurrency, adaptive=True))
    (delivery,) = await given(worker, 1)
    delay = interval
    told = [(1.0, b"o"), (3.0, b"o"), (0.2, b"f"), (0.2, b"r"), (8.0, b"h"), (0.1, b"o"), (200.0, b"o"), (0.1, b"n")]
    for latency, verdict in told + [(0.01, b"o")] * 12:
        await paced.call([done(worker, delivery, verdict, took=latency)], [], sweep=False)

        target = latency / concurrency
        if verdict in b"fh":
            delay = max(target, 2 * delay)
        elif verdict == b"r":
            delay = max(delay, target, (delay + target) / 2)
        elif verdict == b"o":
            delay = max(target, (delay + target) / 2)
        delay = min(max(delay, interval), longest)
        kept = await redis(b"HGET", keys.pace("parse"), b"a")
        assert abs(int(kept or interval * 1e6) - delay * 1e6) < 20

    assert delay == interval
    assert await redis(b"HLEN", keys.pace("parse")) == 0


async def test_the_turns_of_a_key_that_was_slowed_down_lie_further_apart_and_no_more_than_three_are_promised(
    worker: Worker,
) -> None:
    deliveries = await given(worker, 4)
    paced = turns(worker, Rate(10, adaptive=True))
    await paced.call([done(worker, deliveries[0], took=30.0)], [], sweep=False)

    given_turns = await asked(paced, worker, *deliveries)

    assert [round(turn.wait_seconds) for turn in given_turns] == [0, 30, 60, 0]
    assert given_turns[3] == QUEUES
