"""Pacing keys: turns, slots, holds and queues, as every server must keep them."""

from __future__ import annotations

from itertools import pairwise

from flowq.broker.keys import Keys
from flowq.broker.turns import Finished, Turn, Turns, held_keys
from flowq.delivery.message import Delivery
from flowq.delivery.policy import Rate, Retry
from flowq.delivery.settlement import Postponed, decide
from tests.conformance.conftest import Command
from tests.conformance.worker import IN, Worker
from tests.eventually import eventually

FAST = 1_000_000.0  # a second: the rate is not what limits
SOON_SECONDS = 0.1
QUEUES = Turn(queues=True)


def turns(worker: Worker, rate: Rate) -> Turns:
    return Turns(worker.broker, "parse", [IN], rate)


async def given(worker: Worker, n: int) -> list[Delivery]:
    await worker.publish(*[b"%d" % i for i in range(n)])
    return await worker.read(n)


async def asked(turns: Turns, worker: Worker, *deliveries: Delivery, key: str = "a") -> list[Turn]:
    return await turns.reserve([(key, item) for item in deliveries], worker=worker.name, soon_seconds=SOON_SECONDS)


def done(worker: Worker, delivery: Delivery, verdict: bytes = b"o", *, took: float = 0.0, key: str = "a") -> Finished:
    return Finished(key, worker.name, delivery, took, verdict)


async def sent_to_queue(worker: Worker, delivery: Delivery, key: str = "a") -> None:
    await worker.settle(((delivery,), decide(Postponed(key=key), delivery, Retry(), 0.0)))


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


# Rates of keys

OWN = Rate(1, per=1000, by="host", keys={"slow": Rate(1, per=5000), "fragile": Rate(FAST, burst=2, concurrency=1)})


async def test_a_key_has_the_interval_burst_and_slots_of_its_own(worker: Worker, other: Worker) -> None:
    deliveries = await given(worker, 9)
    mine, theirs = turns(worker, OWN), turns(other, OWN)

    slow = [
        *await asked(mine, worker, *deliveries[:2], key="slow"),
        *await asked(theirs, other, deliveries[2], key="slow"),
    ]
    assert [round(turn.wait_seconds, -1) for turn in slow] == [0, 5000, 10000]
    common = await asked(mine, worker, *deliveries[3:5], key="other")
    assert [round(turn.wait_seconds, -1) for turn in common] == [0, 1000]

    assert not (await asked(mine, worker, deliveries[5], key="fragile"))[0].queues
    assert await asked(theirs, other, *deliveries[6:8], key="fragile") == [QUEUES, QUEUES]
    await mine.call([done(worker, deliveries[5], key="fragile")], [], sweep=False)
    assert [turn.queues for turn in await asked(theirs, other, *deliveries[6:8], key="fragile")] == [False, True]


async def test_keys_of_all_kinds_may_ask_in_one_call(worker: Worker) -> None:
    deliveries = await given(worker, 6)
    keys = ["slow", "other", "fragile", "slow", "other", "fragile"]

    found = await turns(worker, OWN).reserve(
        list(zip(keys, deliveries, strict=True)), worker=worker.name, soon_seconds=SOON_SECONDS
    )

    assert [round(turn.wait_seconds, -1) for turn in found] == [0, 0, 0, 5000, 1000, 0]
    assert [turn.queues for turn in found] == [False] * 5 + [True]


async def test_a_key_may_have_slots_where_the_others_have_no_limit_and_the_other_way_round(worker: Worker) -> None:
    deliveries = await given(worker, 4)
    limited = turns(worker, Rate(FAST, by="host", concurrency=1, keys={"free": Rate(FAST)}))

    assert not any(turn.queues for turn in await asked(limited, worker, *deliveries[:3], key="free"))
    assert [turn.queues for turn in await asked(limited, worker, *deliveries[2:], key="a")] == [False, True]


async def test_a_sweep_calls_as_many_as_the_slots_of_the_key_itself_allow(worker: Worker) -> None:
    first, *rest = await given(worker, 6)
    paced = turns(worker, Rate(FAST, by="host", concurrency=1, keys={"wide": Rate(FAST, concurrency=3)}))
    await asked(paced, worker, first, key="wide")
    for delivery in rest:
        await sent_to_queue(worker, delivery, key="wide")

    await paced.call([], [], sweep=True)

    assert len(await worker.read()) == 2


async def test_a_key_that_adapts_is_never_faster_than_its_own_rate(worker: Worker, keys: Keys, redis: Command) -> None:
    paced = turns(worker, Rate(10, by="host", adaptive=True, keys={"slow": Rate(1)}))
    deliveries = await given(worker, 3)
    await paced.call([done(worker, deliveries[0], took=4.0, key="slow")], [], sweep=False)
    assert await redis(b"HGET", keys.pace("parse"), b"slow") == b"4000000"

    for _ in range(10):
        await paced.call([done(worker, deliveries[0], took=0.001, key="slow")], [], sweep=False)

    assert await redis(b"HGET", keys.pace("parse"), b"slow") is None
    waits = [turn.wait_seconds for turn in await asked(paced, worker, *deliveries[:2], key="slow")]
    assert waits[0] == 0
    assert 0.9 < waits[1] <= 1


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


# Holds


async def test_nothing_of_a_held_key_starts_and_other_keys_do(worker: Worker) -> None:
    one, two = await given(worker, 2)
    paced = turns(worker, Rate(FAST))

    assert 59 < await paced.hold("a", 60.0, "HTTP 429") <= 60

    assert await asked(paced, worker, one) == [QUEUES]
    assert await asked(paced, worker, two, key="b") == [Turn()]
    (held,) = await held_keys(worker.broker, ["parse"])
    assert (held.stage, held.key, held.reason, held.repeats, held.waiting) == ("parse", "a", "HTTP 429", 0, 0)
    assert 59 < held.seconds_left <= 60


async def test_while_a_hold_lasts_it_is_only_made_longer(worker: Worker) -> None:
    paced = turns(worker, Rate(FAST))
    await paced.hold("a", 60.0, "")

    assert 59 < await paced.hold("a", 5.0, "") <= 60
    assert 89 < await paced.hold("a", 90.0, "") <= 90


async def test_after_a_hold_one_message_tries_the_key_and_its_success_calls_the_others(worker: Worker) -> None:
    probe, *rest = await given(worker, 4)
    paced = turns(worker, Rate(FAST))
    await paced.hold("a", 0.01, "busy")
    for delivery in rest:
        await sent_to_queue(worker, delivery)
    assert (await held_keys(worker.broker, ["parse"]))[0].waiting == 3

    async def may_try() -> bool:
        return (await asked(paced, worker, probe))[0].tries

    await eventually(may_try)

    assert await asked(paced, worker, rest[0]) == [QUEUES]
    await paced.call([], ["a"], sweep=True)
    assert await worker.read() == []

    await paced.call([done(worker, probe)], [], sweep=False)

    assert [called.message_id for called in await worker.read()] == [delivery.message_id for delivery in rest]
    assert await held_keys(worker.broker, ["parse"]) == []


async def test_a_hold_that_is_asked_for_by_the_message_that_tries_lasts_twice_as_long(worker: Worker) -> None:
    (probe,) = await given(worker, 1)
    paced = turns(worker, Rate(FAST))
    lasted = [await paced.hold("a", 0.02, "busy")]

    async def may_try() -> bool:
        return (await asked(paced, worker, probe))[0].tries

    for _ in range(3):
        await eventually(may_try)
        lasted.append(await paced.hold("a", 0.02, "busy"))
        await paced.call([done(worker, probe, b"h")], [], sweep=False)

    assert [round(seconds, 3) for seconds in lasted] == [0.02, 0.04, 0.08, 0.16]
    assert (await held_keys(worker.broker, ["parse"]))[0].repeats == 3


async def test_another_message_tries_when_the_worker_of_the_first_has_died(worker: Worker, other: Worker) -> None:
    first, second = await given(worker, 2)
    mine, theirs = turns(worker, Rate(FAST)), turns(other, Rate(FAST))
    await mine.hold("a", 0.001, "")

    async def may_try() -> bool:
        return (await asked(theirs, other, first))[0].tries

    await eventually(may_try)
    await sent_to_queue(worker, second)
    await mine.call([], [], sweep=True)
    assert await worker.read() == []

    await other.broker.retire(other.name, [IN])
    await mine.call([], [], sweep=True)

    (called,) = await worker.read()
    assert (await asked(mine, worker, called))[0].tries


async def test_a_try_that_was_interrupted_proves_nothing(worker: Worker) -> None:
    first, second = await given(worker, 2)
    paced = turns(worker, Rate(FAST))
    await paced.hold("a", 0.001, "why it was")

    async def may_try() -> bool:
        return (await asked(paced, worker, first))[0].tries

    await eventually(may_try)
    await paced.call([done(worker, first, b"n")], [], sweep=False)

    assert (await asked(paced, worker, second))[0].tries
    assert (await held_keys(worker.broker, ["parse"]))[0].reason == "why it was"


# Forgetting


async def test_a_key_is_forgotten_when_its_next_turn_is_past_and_a_burst_saved_up_and_no_sooner(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    own = {"plain": Rate(1, per=1000), "bursts": Rate(1, per=1000, burst=3)}
    paced = turns(worker, Rate(1, per=10, by="host", burst=4, keys=own))
    saved_up_seconds = {"common": 3 * 10, "plain": 0, "bursts": 2 * 1000}

    for seconds_since in (-5000, -5, 5, 25, 35, 1500, 2500):
        now = int((await redis(b"TIME"))[0])
        for key in saved_up_seconds:
            await redis(b"HSET", keys.rate("parse"), key, (now - seconds_since) * 1_000_000)
        while await paced.forget():
            pass

        kept = {key.decode() for key in await redis(b"HKEYS", keys.rate("parse"))}
        assert kept == {key for key, needed in saved_up_seconds.items() if seconds_since < needed}


async def test_a_key_that_was_forgotten_gets_the_turns_that_it_would_have_got(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    deliveries = await given(worker, 6)
    paced = turns(worker, Rate(1, per=10, by="host", burst=4))
    before = b"%d000000" % (int((await redis(b"TIME"))[0]) - 31)
    await redis(b"HSET", keys.rate("parse"), "forgotten", before)
    await paced.forget()
    assert not await redis(b"EXISTS", keys.rate("parse"))
    await redis(b"HSET", keys.rate("parse"), "remembered", before)

    waits = [
        [round(turn.wait_seconds, 1) for turn in await asked(paced, worker, *deliveries, key=key)]
        for key in ("forgotten", "remembered")
    ]

    assert waits[0] == waits[1] == [0, 0, 0, 0, 10, 20]


async def test_a_step_looks_at_so_many_and_no_more_and_the_steps_reach_all(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    past, to_come = (await redis(b"TIME"))[0], 9_999_999_999
    for first in range(0, 20_000, 1000):
        flat = [
            word for n in range(first, first + 1000) for word in (f"{n}", int(past if n % 8 else to_come) * 1_000_000)
        ]
        await redis(b"HSET", keys.rate("parse"), *flat)
    paced = turns(worker, Rate(1, by="host"))

    assert await paced.forget()
    left = [int(await redis(b"HLEN", keys.rate("parse")))]
    assert 17_000 < left[0] < 20_000
    while await paced.forget():
        left.append(int(await redis(b"HLEN", keys.rate("parse"))))

    assert max(before - after for before, after in pairwise(left)) < 3000
    assert left[-1] < 2 * 2500 + 3000  # what it stopped at was live for the most part
    for _ in range(20):
        await paced.forget()
    assert await redis(b"HLEN", keys.rate("parse")) == 2500


async def test_a_pace_is_remembered_for_an_hour_and_as_long_as_its_key_is_held(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    (delivery,) = await given(worker, 1)
    paced = turns(worker, Rate(10, by="host", adaptive=True))
    for key in ("recent", "old", "held", "never asked for"):
        await asked(paced, worker, delivery, key=key)
        await paced.call([done(worker, delivery, took=20.0, key=key)], [], sweep=False)
    await redis(b"HDEL", keys.rate("parse"), "never asked for")
    await paced.call([done(worker, delivery, took=20.0, key="never asked for")], [], sweep=False)
    await paced.hold("held", 60.0, "")
    now = int((await redis(b"TIME"))[0])
    for key, ago in {"recent": 3000, "old": 4000, "held": 4000, "never asked for": 4000}.items():
        assert await redis(b"HEXISTS", keys.rate("parse"), key)
        await redis(b"HSET", keys.rate("parse"), key, (now - ago) * 1_000_000)

    await paced.forget()

    for kept in (keys.rate("parse"), keys.pace("parse")):
        assert sorted(await redis(b"HKEYS", kept)) == [b"held", b"recent"]


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
