"""Pacing keys: turns, slots, queues and paces, on every server."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from flowq.broker.edges import Edges
from flowq.broker.flow_control.limiter import Reservation, Verdict
from flowq.broker.keys import Keys
from flowq.broker.workers import Workers
from flowq.delivery.message import Delivery
from flowq.delivery.policy import Rate
from tests.conformance.conftest import Command
from tests.conformance.paced import FAST, QUEUES, SOON_SECONDS, asked, done, end, given, limiter, sent_to_queue
from tests.conformance.worker import IN, Worker
from tests.eventually import eventually

# Limiter


async def test_turns_of_one_key_lie_an_interval_apart_over_all_workers(worker: Worker, other: Worker) -> None:
    deliveries = await given(worker, 4)
    rate = Rate(1, per=1000)

    first = await asked(limiter(worker, rate), worker, *deliveries[:2])
    second = await asked(limiter(other, rate), other, *deliveries[2:])

    waits = [turn.wait_seconds for turn in (*first, *second)]
    assert waits[0] == 0
    assert [round(wait, -1) for wait in waits[1:]] == [1000, 2000, 3000]


async def test_a_burst_may_start_at_once_and_keys_do_not_wait_for_each_other(worker: Worker) -> None:
    deliveries = await given(worker, 5)
    paced = limiter(worker, Rate(1, per=1000, burst=3))

    waits = [turn.wait_seconds for turn in await asked(paced, worker, *deliveries)]

    assert [wait == 0 for wait in waits] == [True, True, True, False, False]
    assert await asked(paced, worker, deliveries[4], key="b") == [Reservation()]


# Slots


async def test_no_more_of_a_key_have_a_slot_than_may_run_at_once(worker: Worker, other: Worker) -> None:
    deliveries = await given(worker, 5)
    mine, theirs = (limiter(who, Rate(FAST, concurrency=2)) for who in (worker, other))

    assert await asked(mine, worker, deliveries[0]) == [Reservation()]
    assert [turn.must_queue for turn in await asked(theirs, other, *deliveries[1:4])] == [False, True, True]
    assert not (await asked(mine, worker, deliveries[4], key="b"))[0].must_queue

    await end(mine, done(worker, deliveries[0]))
    assert [turn.must_queue for turn in await asked(theirs, other, *deliveries[2:4])] == [False, True]


async def test_giving_a_slot_back_twice_gives_back_one(worker: Worker) -> None:
    deliveries = await given(worker, 4)
    paced = limiter(worker, Rate(FAST, concurrency=2))
    await asked(paced, worker, *deliveries[:2])

    for _ in range(2):
        await end(paced, done(worker, deliveries[0]))

    assert [turn.must_queue for turn in await asked(paced, worker, *deliveries[2:])] == [False, True]


async def test_the_slots_of_a_worker_lapse_with_its_registration(worker: Worker, other: Worker) -> None:
    deliveries = await given(worker, 3)
    rate = Rate(FAST, concurrency=1)
    await asked(limiter(other, rate), other, deliveries[0])
    assert await asked(limiter(worker, rate), worker, deliveries[1]) == [QUEUES]

    await Workers(other.broker).retire(other.name, [IN])

    assert not (await asked(limiter(worker, rate), worker, deliveries[1]))[0].must_queue
    assert await asked(limiter(worker, rate), worker, deliveries[2]) == [QUEUES]


async def test_the_slots_of_a_worker_that_is_known_to_be_dead_lapse_at_once(worker: Worker, other: Worker) -> None:
    """Its messages have not been taken over yet, and the quarantine that will may itself wait for one of its slots."""
    deliveries = await given(worker, 2)
    rate = Rate(FAST, concurrency=1)
    await asked(limiter(other, rate), other, deliveries[0])

    await Workers(worker.broker).record_death(other.name, "crash: died of SIGSEGV")

    assert await asked(limiter(worker, rate), worker, deliveries[1]) == [Reservation()]


async def test_a_sweep_removes_the_slots_of_dead_workers_also_for_idle_keys(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    mine, gone = await given(worker, 2)
    rate = Rate(FAST, concurrency=2)
    await asked(limiter(worker, rate), worker, mine)
    await asked(limiter(other, rate), other, gone, key="b")
    await Workers(other.broker).retire(other.name, [IN])

    await limiter(worker, rate).dequeue([], sweep=True)

    (slot,) = await redis(b"ZRANGE", keys.slots("parse"), 0, -1)
    assert worker.name.encode() in slot


async def test_an_unregistered_worker_is_given_no_turn_and_no_slot(worker: Worker, other: Worker) -> None:
    deliveries = await given(worker, 3)
    rate = Rate(FAST, concurrency=1)
    await Workers(other.broker).retire(other.name, [IN])  # it was taken for dead, and does not know it yet

    (turn,) = await asked(limiter(other, rate), other, deliveries[0])

    assert turn.is_postponed
    assert turn.wait_seconds > 0
    assert await asked(limiter(worker, rate), worker, *deliveries[1:]) == [Reservation(), QUEUES]


# Queues


async def test_who_queues_is_delayed_and_is_called_in_order_when_a_slot_is_free(worker: Worker) -> None:
    first, *rest = await given(worker, 4)
    paced = limiter(worker, Rate(FAST, concurrency=1))
    await asked(paced, worker, first)
    for delivery in rest:
        await sent_to_queue(worker, delivery)

    assert (await worker.balance()).delayed == 3
    assert (await Edges(worker.broker).promote([IN]))[0] == 0
    assert await paced.dequeue(["a"], sweep=True) == []
    assert await worker.read() == []

    await end(paced, done(worker, first))

    (called,) = await worker.read()
    assert (called.message_id, called.body, called.header.attempt) == (rest[0].message_id, rest[0].body, 1)
    balance = await worker.balance()
    assert (balance.delayed, balance.running, balance.retries) == (2, 2, 0)


async def test_a_sweep_calls_those_that_no_release_would(worker: Worker, other: Worker) -> None:
    deliveries = await given(worker, 3)
    rate = Rate(FAST, concurrency=1)
    await asked(limiter(other, rate), other, deliveries[0])
    await sent_to_queue(worker, deliveries[1])
    await sent_to_queue(worker, deliveries[2], key="a longer key")
    await Workers(other.broker).retire(other.name, [IN])

    await limiter(worker, rate).dequeue([], sweep=True)

    assert {called.message_id for called in await worker.read()} == {item.message_id for item in deliveries[1:]}


async def test_a_key_that_begins_like_another_has_slots_and_a_queue_of_its_own(worker: Worker) -> None:
    deliveries = await given(worker, 3)
    paced = limiter(worker, Rate(FAST, concurrency=1))
    await asked(paced, worker, deliveries[0], key="host")
    await sent_to_queue(worker, deliveries[1], key="host")

    assert await asked(paced, worker, deliveries[2], key="host:80") == [Reservation()]
    await end(paced, done(worker, deliveries[2], key="host:80"))

    assert await worker.read() == []


async def test_a_queue_survives_a_message_that_was_deleted_by_hand(worker: Worker, keys: Keys, redis: Command) -> None:
    first, second = await given(worker, 2)
    await sent_to_queue(worker, first)
    await sent_to_queue(worker, second)
    await redis(b"ZREM", keys.delayed(IN), first.message_id)
    await redis(b"HDEL", keys.delayed_bodies(IN), first.message_id)

    await limiter(worker, Rate(FAST)).dequeue(["a"])

    assert [called.message_id for called in await worker.read()] == [second.message_id]


# Adapting


async def test_a_key_changes_speed_by_the_rule_of_autothrottle(worker: Worker, keys: Keys, redis: Command) -> None:
    interval, concurrency, longest = 0.1, 2, 60.0
    paced = limiter(worker, Rate(10, concurrency=concurrency, adaptive=True))
    (delivery,) = await given(worker, 1)
    delay = interval
    well, failed = Verdict.SUCCEEDED, Verdict.FAILED
    told = [(1.0, well), (3.0, well), (0.2, failed), (0.2, Verdict.REJECTED), (8.0, Verdict.HELD)]
    told += [(0.1, well), (200.0, well), (0.1, Verdict.NOT_RUN)]
    for latency, verdict in told + [(0.01, well)] * 12:
        await end(paced, done(worker, delivery, verdict, took=latency))

        target = latency / concurrency
        if verdict in (failed, Verdict.HELD):
            delay = max(target, 2 * delay)
        elif verdict is Verdict.REJECTED:
            delay = max(delay, target, (delay + target) / 2)
        elif verdict is well:
            delay = max(target, (delay + target) / 2)
        delay = min(max(delay, interval), longest)
        kept = await redis(b"HGET", keys.pace("parse"), b"a")
        assert abs(int(kept or interval * 1e6) - delay * 1e6) < 20

    assert delay == interval
    assert await redis(b"HLEN", keys.pace("parse")) == 0


async def test_turns_of_a_slowed_key_lie_further_apart_and_at_most_three_are_promised(worker: Worker) -> None:
    deliveries = await given(worker, 4)
    paced = limiter(worker, Rate(10, adaptive=True))
    await end(paced, done(worker, deliveries[0], took=30.0))

    given_turns = await asked(paced, worker, *deliveries)

    assert [round(turn.wait_seconds) for turn in given_turns] == [0, 30, 60, 0]
    assert given_turns[3] == QUEUES


# Asking again


async def test_a_worker_that_asks_again_keeps_the_slot_for_itself(worker: Worker, other: Worker) -> None:
    first, second = await given(worker, 2)
    rate = Rate(FAST, concurrency=1)
    mine, theirs = limiter(worker, rate), limiter(other, rate)
    assert await asked(mine, worker, first) == [Reservation()]

    for paced in (mine, limiter(worker, rate)):
        assert not (await asked(paced, worker, first))[0].must_queue
    assert await asked(theirs, other, first, second) == [QUEUES, QUEUES]

    await end(mine, done(worker, first))
    assert not (await asked(theirs, other, second))[0].must_queue


async def test_the_one_that_tries_a_held_key_tries_it_when_its_worker_asks_again(worker: Worker) -> None:
    first, second = await given(worker, 2)
    paced = limiter(worker, Rate(FAST, concurrency=1))
    await paced.hold("a", 0.001, "")

    async def may_try() -> bool:
        return (await asked(paced, worker, first))[0].is_probe

    await eventually(may_try)

    assert (await asked(paced, worker, first))[0].is_probe
    assert await asked(paced, worker, second) == [QUEUES]


async def test_the_same_request_takes_one_turn_however_often_it_is_sent(worker: Worker) -> None:
    deliveries = await given(worker, 3)
    paced = limiter(worker, Rate(1, per=1000))
    messages = [("a", delivery) for delivery in deliveries[:2]]

    for _ in range(3):
        given_turns = await paced.reserve(messages, worker=worker.name, soon_seconds=SOON_SECONDS, token="t")
        assert [round(turn.wait_seconds, -1) for turn in given_turns] == [0, 1000]

    assert round((await asked(paced, worker, deliveries[2]))[0].wait_seconds, -1) == 2000


# What stood still


def starts_of(turns: list[Reservation]) -> list[float]:
    return [turn.wait_seconds for turn in turns if not (turn.must_queue or turn.is_postponed)]


async def test_after_a_standstill_no_more_start_than_the_rate_and_its_burst_and_the_rest_goes_to_the_end_of_the_line(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    """All who have waited come back at once, because workers, Redis or the clock stood still for ten minutes."""
    deliveries = await given(worker, 400)
    rate = Rate(50, burst=3)
    paced = limiter(worker, rate)
    await asked(paced, worker, *deliveries)
    for key in (keys.rate("parse"), keys.starts("parse")):
        await redis(b"HINCRBY", key, b"a", -600_000_000)

    half = len(deliveries) // 2
    answers = [
        turn
        for paced, who, part in ((paced, worker, deliveries[:half]), (limiter(other, rate), other, deliveries[half:]))
        for turn in await paced.reserve(
            [("a", item) for item in part], worker=who.name, soon_seconds=SOON_SECONDS, again=True
        )
    ]

    started = starts_of(answers)
    seconds = 2.0  # the patience of `reserve.lua`
    assert len(started) <= (seconds + 1) * 50 + 3
    for first in started:  # in no second that begins with a start
        assert sum(first <= start < first + 1 for start in started) <= 50 + 3
    later = [turn.wait_seconds for turn in answers if turn.is_postponed]
    assert len(started) + len(later) == 400
    assert all(0.019 < second - first < 0.021 for first, second in pairwise(later[-100:]))


async def test_starts_continue_while_waiting_messages_are_not_due(worker: Worker, keys: Keys, redis: Command) -> None:
    """The backlog of a key is queued: its turns are an hour ahead, and none of its messages is due."""
    deliveries = await given(worker, 20)
    paced = limiter(worker, Rate(50))
    await redis(b"HSET", keys.rate("parse"), b"a", (int((await redis(b"TIME"))[0]) + 3600) * 1_000_000)

    answers = await asked(paced, worker, *deliveries)

    assert [round(start, 2) for start in starts_of(answers)] == [0.0, 0.02, 0.04, 0.06, 0.08, 0.1]
    assert all(3598 < turn.wait_seconds < 3601 for turn in answers if turn.is_postponed)


async def test_those_who_have_waited_go_before_those_who_come_for_the_first_time(worker: Worker) -> None:
    deliveries = await given(worker, 60)
    paced = limiter(worker, Rate(50))
    await asked(paced, worker, *deliveries[:30])

    back = await paced.reserve(
        [("a", item) for item in deliveries[10:30]], worker=worker.name, soon_seconds=SOON_SECONDS, again=True
    )

    assert len(starts_of(back)) == 20
    assert starts_of(await asked(paced, worker, *deliveries[30:])) == []


async def test_a_clock_that_was_set_back_stops_a_key_only_briefly(worker: Worker, keys: Keys, redis: Command) -> None:
    (delivery,) = await given(worker, 1)
    paced = limiter(worker, Rate(50))
    await asked(paced, worker, delivery)
    for key in (keys.rate("parse"), keys.starts("parse")):
        await redis(b"HINCRBY", key, b"a", 3_600_000_000)

    async def starts() -> bool:
        return bool(starts_of(await asked(paced, worker, delivery)))

    await eventually(starts)


@pytest.mark.parametrize("burst", [1, 3])
async def test_a_missed_start_is_granted_again_if_no_later_one_is(worker: Worker, burst: int) -> None:
    first, second, third = await given(worker, 3)
    paced = limiter(worker, Rate(1, per=1000, burst=burst))
    missed: dict[tuple[str, bytes], float] = {}
    for delivery in (first, second)[:burst]:
        (turn,) = await asked(paced, worker, delivery)
        missed[delivery.edge, delivery.entry_id] = paced.reserved_at + turn.wait_seconds

    late = [("a", delivery) for delivery in (first, second)[:burst]]
    given_turns = await paced.reserve(late, worker=worker.name, soon_seconds=SOON_SECONDS, again=True, missed=missed)

    assert starts_of(given_turns) == [0.0] * len(late)
    assert (await asked(paced, worker, third))[0].is_postponed is (burst == 1)


async def test_a_missed_start_is_lost_if_a_later_one_is_granted(worker: Worker) -> None:
    first, second, third = await given(worker, 3)
    interval = 0.9  # two of them are no more than the patience of `reserve.lua`
    paced = limiter(worker, Rate(1, per=interval))

    async def starts(*deliveries: Delivery, **options: Any) -> list[float]:
        messages = [("a", item) for item in deliveries]
        turns = await paced.reserve(messages, worker=worker.name, soon_seconds=10, **options)
        return [paced.reserved_at + turn.wait_seconds for turn in turns]

    missed, granted = await starts(first, second)

    (again,) = await starts(first, again=True, missed={(first.edge, first.entry_id): missed})

    assert again > granted + interval - 0.001, "behind the second, not at once beside it"
    (last,) = await starts(third)
    assert last > again + interval - 0.001


async def test_a_missed_turn_returns_its_slot_and_asks_again(worker: Worker, keys: Keys, redis: Command) -> None:
    first, second = await given(worker, 2)
    paced = limiter(worker, Rate(1, per=1000, concurrency=1))
    await asked(paced, worker, first)

    (late,) = await paced.reserve([("a", first)], worker=worker.name, soon_seconds=SOON_SECONDS, again=True)

    assert late.is_postponed
    assert await redis(b"ZCARD", keys.slots("parse")) == 0
    assert (await asked(paced, worker, second))[0].is_postponed


async def test_a_pace_that_a_handler_asked_for_holds_beside_the_rate_and_for_its_key_alone(worker: Worker) -> None:
    paced = limiter(worker, Rate(FAST, by="host"))
    assert await paced.pace("slow", 10.0)
    slow, other = await given(worker, 3), await given(worker, 3)

    first, *rest = await asked(paced, worker, *slow, key="slow")
    others = await asked(paced, worker, *other, key="other")

    assert first.wait_seconds == 0
    assert [turn.is_postponed for turn in rest] == [True, True]
    assert 5 < rest[0].wait_seconds <= 10
    assert 15 < rest[1].wait_seconds <= 20
    assert [turn.wait_seconds < 1 for turn in others] == [True] * 3


async def test_a_pace_that_is_shorter_than_the_rate_changes_nothing(worker: Worker) -> None:
    paced = limiter(worker, Rate(1, per=10, by="host"))
    await paced.pace("a", 0.001)
    _, second = await asked(paced, worker, *await given(worker, 2))
    assert 9 < second.wait_seconds <= 10
