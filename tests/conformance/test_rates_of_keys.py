"""Keys with a rate, burst and slots of their own beside those that have none."""

from __future__ import annotations

from flowq.broker.keys import Keys
from flowq.delivery.policy import Rate
from tests.conformance.conftest import Command
from tests.conformance.paced import FAST, QUEUES, SOON_SECONDS, asked, done, end, given, limiter, sent_to_queue
from tests.conformance.worker import Worker

OWN = Rate(1, per=1000, by="host", keys={"slow": Rate(1, per=5000), "fragile": Rate(FAST, burst=2, concurrency=1)})


async def test_a_key_has_the_interval_burst_and_slots_of_its_own(worker: Worker, other: Worker) -> None:
    deliveries = await given(worker, 9)
    mine, theirs = limiter(worker, OWN), limiter(other, OWN)

    slow = [
        *await asked(mine, worker, *deliveries[:2], key="slow"),
        *await asked(theirs, other, deliveries[2], key="slow"),
    ]
    assert [round(turn.wait_seconds, -1) for turn in slow] == [0, 5000, 10000]
    common = await asked(mine, worker, *deliveries[3:5], key="other")
    assert [round(turn.wait_seconds, -1) for turn in common] == [0, 1000]

    assert not (await asked(mine, worker, deliveries[5], key="fragile"))[0].must_queue
    assert await asked(theirs, other, *deliveries[6:8], key="fragile") == [QUEUES, QUEUES]
    await end(mine, done(worker, deliveries[5], key="fragile"))
    assert [turn.must_queue for turn in await asked(theirs, other, *deliveries[6:8], key="fragile")] == [False, True]


async def test_keys_of_all_kinds_may_ask_in_one_call(worker: Worker) -> None:
    deliveries = await given(worker, 6)
    keys = ["slow", "other", "fragile", "slow", "other", "fragile"]

    found = await limiter(worker, OWN).reserve(
        list(zip(keys, deliveries, strict=True)), worker=worker.name, soon_seconds=SOON_SECONDS
    )

    assert [round(turn.wait_seconds, -1) for turn in found] == [0, 0, 0, 5000, 1000, 0]
    assert [turn.must_queue for turn in found] == [False] * 5 + [True]


async def test_a_key_may_have_slots_where_the_others_have_no_limit_and_the_other_way_round(worker: Worker) -> None:
    deliveries = await given(worker, 4)
    limited = limiter(worker, Rate(FAST, by="host", concurrency=1, keys={"free": Rate(FAST)}))

    assert not any(turn.must_queue for turn in await asked(limited, worker, *deliveries[:3], key="free"))
    assert [turn.must_queue for turn in await asked(limited, worker, *deliveries[2:], key="a")] == [False, True]


async def test_a_sweep_calls_as_many_as_the_slots_of_the_key_itself_allow(worker: Worker) -> None:
    first, *rest = await given(worker, 6)
    paced = limiter(worker, Rate(FAST, by="host", concurrency=1, keys={"wide": Rate(FAST, concurrency=3)}))
    await asked(paced, worker, first, key="wide")
    for delivery in rest:
        await sent_to_queue(worker, delivery, key="wide")

    await paced.dequeue([], sweep=True)

    assert len(await worker.read()) == 2


async def test_a_key_that_adapts_is_never_faster_than_its_own_rate(worker: Worker, keys: Keys, redis: Command) -> None:
    paced = limiter(worker, Rate(10, by="host", adaptive=True, keys={"slow": Rate(1)}))
    deliveries = await given(worker, 3)
    await end(paced, done(worker, deliveries[0], took=4.0, key="slow"))
    assert await redis(b"HGET", keys.pace("parse"), b"slow") == b"4000000"

    for _ in range(10):
        await end(paced, done(worker, deliveries[0], took=0.001, key="slow"))

    assert await redis(b"HGET", keys.pace("parse"), b"slow") is None
    waits = [turn.wait_seconds for turn in await asked(paced, worker, *deliveries[:2], key="slow")]
    assert waits[0] == 0
    assert 0.9 < waits[1] <= 1
