"""Idle pacing keys expire, and no others."""

from __future__ import annotations

from itertools import pairwise

from flowq.broker.keys import Keys
from flowq.delivery.policy import Rate
from tests.conformance.conftest import Command
from tests.conformance.paced import asked, done, end, given, limiter
from tests.conformance.worker import Worker


async def test_a_key_is_forgotten_when_its_next_turn_is_past_and_a_burst_saved_up_and_no_sooner(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    own = {"plain": Rate(1, per=1000), "bursts": Rate(1, per=1000, burst=3)}
    paced = limiter(worker, Rate(1, per=10, by="host", burst=4, keys=own))
    saved_up_seconds = {"common": 3 * 10, "plain": 0, "bursts": 2 * 1000}

    for seconds_since in (-5000, -5, 5, 25, 35, 1500, 2500):
        now = int((await redis(b"TIME"))[0])
        for key in saved_up_seconds:
            await redis(b"HSET", keys.rate("parse"), key, (now - seconds_since) * 1_000_000)
        while await paced.expire_idle_keys():
            pass

        kept = {key.decode() for key in await redis(b"HKEYS", keys.rate("parse"))}
        assert kept == {key for key, needed in saved_up_seconds.items() if seconds_since < needed}


async def test_a_forgotten_key_gets_the_turns_it_would_have_got(worker: Worker, keys: Keys, redis: Command) -> None:
    deliveries = await given(worker, 6)
    paced = limiter(worker, Rate(1, per=10, by="host", burst=4))
    before = b"%d000000" % (int((await redis(b"TIME"))[0]) - 31)
    await redis(b"HSET", keys.rate("parse"), "forgotten", before)
    await paced.expire_idle_keys()
    assert not await redis(b"EXISTS", keys.rate("parse"))
    await redis(b"HSET", keys.rate("parse"), "remembered", before)

    waits = [
        [round(turn.wait_seconds, 1) for turn in await asked(paced, worker, *deliveries, key=key)]
        for key in ("forgotten", "remembered")
    ]

    assert waits[0] == waits[1] == [0, 0, 0, 0, 10, 20]


async def test_a_step_looks_at_so_many_and_the_steps_reach_all(worker: Worker, keys: Keys, redis: Command) -> None:
    past, to_come = (await redis(b"TIME"))[0], 9_999_999_999
    for first in range(0, 20_000, 1000):
        flat = [
            word for n in range(first, first + 1000) for word in (f"{n}", int(past if n % 8 else to_come) * 1_000_000)
        ]
        await redis(b"HSET", keys.rate("parse"), *flat)
    paced = limiter(worker, Rate(1, by="host"))

    assert await paced.expire_idle_keys()
    left = [int(await redis(b"HLEN", keys.rate("parse")))]
    assert 17_000 < left[0] < 20_000
    while await paced.expire_idle_keys():
        left.append(int(await redis(b"HLEN", keys.rate("parse"))))

    assert max(before - after for before, after in pairwise(left)) < 3000
    assert left[-1] < 2 * 2500 + 3000  # what it stopped at was live for the most part
    for _ in range(20):
        await paced.expire_idle_keys()
    assert await redis(b"HLEN", keys.rate("parse")) == 2500


async def test_a_pace_is_remembered_for_an_hour_and_as_long_as_its_key_is_held(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    (delivery,) = await given(worker, 1)
    paced = limiter(worker, Rate(10, by="host", adaptive=True))
    for key in ("recent", "old", "held", "never asked for"):
        await asked(paced, worker, delivery, key=key)
        await end(paced, done(worker, delivery, took=20.0, key=key))
    await redis(b"HDEL", keys.rate("parse"), "never asked for")
    await end(paced, done(worker, delivery, took=20.0, key="never asked for"))
    await paced.hold("held", 60.0, "")
    now = int((await redis(b"TIME"))[0])
    for key, ago in {"recent": 3000, "old": 4000, "held": 4000, "never asked for": 4000}.items():
        assert await redis(b"HEXISTS", keys.rate("parse"), key)
        await redis(b"HSET", keys.rate("parse"), key, (now - ago) * 1_000_000)

    await paced.expire_idle_keys()

    for kept in (keys.rate("parse"), keys.pace("parse")):
        assert sorted(await redis(b"HKEYS", kept)) == [b"held", b"recent"]
