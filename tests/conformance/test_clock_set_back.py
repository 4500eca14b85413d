"""After the clock of Redis was ahead and is set back, times written meanwhile are as far away as before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from flowq.broker.client.connection import Dialer, UrlDialer
from flowq.broker.clock import LARGEST_STEP_LET_PASS_MS, Clock
from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.publishing import Publishing
from flowq.broker.workers import Workers
from tests.conformance.conftest import Command, server_ms
from tests.conformance.paced import given, sent_to_queue
from tests.conformance.worker import IN, OUT, PLAN, Worker, output

HOUR_MS = 3_600_000
LATE_MS = 30_000  # that a test may take, on a busy machine
CLOSE = pytest.approx(0, abs=LATE_MS)
Now = Callable[[], Awaitable[int]]


@pytest.fixture
def dialer(real_dialer: UrlDialer) -> Dialer:
    """A server in memory has the clock of its only process."""
    return real_dialer


@pytest.fixture
def now_ms(redis: Command) -> Now:
    return partial(server_ms, redis)


@pytest.fixture
async def set_back(worker: Worker, keys: Keys, redis: Command, now_ms: Now) -> Callable[[], Awaitable[float]]:
    """An hour ahead until now."""

    async def set_back() -> float:
        await redis(b"HSET", keys.clock, b"latest_ms", await now_ms() + HOUR_MS)
        return await Clock(worker.broker).follow(PLAN)

    return set_back


Step = Callable[[], Awaitable[float]]


async def test_a_step_back_is_reported_once(worker: Worker, set_back: Step) -> None:
    assert await set_back() == pytest.approx(HOUR_MS / 1000, abs=LATE_MS / 1000)
    assert await Clock(worker.broker).follow(PLAN) == 0


async def test_a_worker_whose_name_is_no_text_does_not_keep_the_clock_from_being_followed(
    keys: Keys, redis: Command, set_back: Step
) -> None:
    await redis(b"HSET", keys.workers, b"\xff\xfe", b"{}")
    assert await set_back() == pytest.approx(HOUR_MS / 1000, abs=LATE_MS / 1000)


async def test_normal_time_and_small_steps_back_change_nothing(
    worker: Worker, keys: Keys, redis: Command, now_ms: Now
) -> None:
    await Publishing(worker.broker).publish(IN, [output(IN, b"1")], delay_ms=HOUR_MS)
    (_, due) = await redis(b"ZRANGE", keys.delayed(IN), 0, -1, b"WITHSCORES")

    await redis(b"HSET", keys.clock, b"latest_ms", await now_ms() - HOUR_MS)
    assert await Clock(worker.broker).follow(PLAN) == 0
    await redis(b"HSET", keys.clock, b"latest_ms", await now_ms() + LARGEST_STEP_LET_PASS_MS - 1000)
    assert await Clock(worker.broker).follow(PLAN) == 0

    assert await redis(b"ZRANGE", keys.delayed(IN), 0, -1, b"WITHSCORES") == [_, due]


@pytest.mark.parametrize("written", [b"1e300", b"nan", b"later", b"-5", b"9" * 400])
async def test_a_clock_written_by_another_program_moves_nothing(
    written: bytes, worker: Worker, keys: Keys, redis: Command, now_ms: Now
) -> None:
    await redis(b"HSET", keys.clock, b"latest_ms", written)

    assert await Clock(worker.broker).follow(PLAN) == 0

    assert int(await redis(b"HGET", keys.clock, b"latest_ms")) == pytest.approx(await now_ms(), abs=LATE_MS)


async def test_delayed_messages_are_due_when_they_would_have_been(
    worker: Worker, keys: Keys, redis: Command, now_ms: Now, set_back: Step
) -> None:
    n = 2500
    for edge, delay_ms in ((IN, HOUR_MS + 60_000), (OUT, HOUR_MS + 120_000)):
        await Publishing(worker.broker).publish(edge, [output(edge, b"%d" % i) for i in range(n)], delay_ms=delay_ms)

    await set_back()

    for edge, left_ms in ((IN, 60_000), (OUT, 120_000)):
        due = [float(score) for score in (await redis(b"ZRANGE", keys.delayed(edge), 0, -1, b"WITHSCORES"))[1::2]]
        assert len(due) == n
        assert [min(due) - await now_ms() - left_ms, max(due) - await now_ms() - left_ms] == [CLOSE, CLOSE]


async def test_what_was_due_while_the_clock_was_ahead_is_promoted_at_once(worker: Worker, set_back: Step) -> None:
    await Publishing(worker.broker).publish(IN, [output(IN, b"1")], delay_ms=HOUR_MS - 60_000)

    await set_back()

    assert (await Edges(worker.broker).promote([IN]))[0] == 1


async def test_turns_holds_seen_and_tokens_go_back_too(keys: Keys, redis: Command, now_ms: Now, set_back: Step) -> None:
    ahead_ms = await now_ms() + HOUR_MS + 60_000
    await redis(b"HSET", keys.rate("parse"), b"a", ahead_ms * 1000, b"b", 5)
    for key in (keys.held_until("parse"), keys.seen_until("parse"), keys.published):
        await redis(b"ZADD", key, ahead_ms, b"a", 5, b"b")

    await set_back()

    turns_us = await redis(b"HMGET", keys.rate("parse"), b"a", b"b")
    assert [int(turns_us[0]) // 1000 - await now_ms() - 60_000, int(turns_us[1])] == [CLOSE, 5]
    for key in (keys.held_until("parse"), keys.seen_until("parse"), keys.published):
        until_ms = [float(await redis(b"ZSCORE", key, name)) for name in (b"a", b"b")]
        assert [until_ms[0] - await now_ms() - 60_000, until_ms[1]] == [CLOSE, 5]


async def test_the_lease_of_a_dead_worker_lives_no_longer_than_it_would_have(
    worker: Worker, keys: Keys, redis: Command, set_back: Step
) -> None:
    await Workers(worker.broker).register(
        "dead", {}, lease_ms=HOUR_MS + 10_000, heartbeat="1"
    )  # as a step back leaves it
    await Workers(worker.broker).register("alive", {}, lease_ms=10_000, heartbeat="1")

    await set_back()

    for name in ("dead", "alive"):
        assert 0 < await redis(b"PTTL", keys.lease(name)) <= 10_000 + LATE_MS


async def test_who_queues_later_does_not_overtake_who_queued_while_the_clock_was_ahead(
    worker: Worker, keys: Keys, redis: Command, set_back: Step
) -> None:
    early, late = await given(worker, 2)
    await sent_to_queue(worker, early)
    (member,) = await redis(b"ZRANGE", keys.queue("parse"), 0, -1)
    key, us, edge, name = member.split(b"\n")
    await redis(b"DEL", keys.queue("parse"))
    await redis(b"ZADD", keys.queue("parse"), 0, b"\n".join([key, b"%016d" % (int(us) + HOUR_MS * 1000), edge, name]))

    await set_back()
    await sent_to_queue(worker, late)

    names = [member.split(b"\n")[-1].decode() for member in await redis(b"ZRANGE", keys.queue("parse"), 0, -1)]
    assert names == [early.message_id, late.message_id]
