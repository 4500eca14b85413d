"""Pacing in running workers: rates, slots and holds per key, across all workers, without occupying slots."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from flowq import Context, Pipeline, Rate, Reject, Retry, RetryLater, stage, testing
from tests.eventually import eventually
from tests.runtime.calls import FAST, Call, Load, calls, drained, is_drained
from tests.runtime.kit import Kit, seconds_between
from tests.runtime.lab import Lab

# Slots


async def test_no_more_of_a_key_run_at_once_over_all_workers_and_the_slots_are_all_used(kit: Kit) -> None:
    load = Load()

    @stage(concurrency=10, rate=Rate(FAST, by="host", concurrency=2))
    async def fetch(call: Call) -> None:
        await load(call.host, 60)

    async with kit(Pipeline("p", fetch), workers=2) as h:
        await h.feed(fetch, *calls(a=20, b=20, c=20))
        await h.drain()

        assert load.most == {"a": 2, "b": 2, "c": 2}
        assert load.most_together == 6
        assert h.balance()["fetch"].ok == 60


async def test_a_key_that_must_wait_holds_no_slot_of_the_stage(lab: Lab) -> None:
    others: list[int] = []
    all_others = asyncio.Event()

    @stage(concurrency=2, rate=Rate(FAST, by="host", concurrency=1))
    async def fetch(call: Call) -> None:
        if call.host == "slow":
            await all_others.wait()
        else:
            others.append(call.n)
            if len(others) == 30:
                all_others.set()

    pipeline = Pipeline("p", fetch)
    await lab.push(pipeline, fetch, *calls(slow=30, fast=30))
    await drained(lab, pipeline)

    assert sorted(others) == list(range(30))
    assert (await lab.balance(pipeline))["fetch"].ok == 60


async def test_a_slot_is_free_again_though_a_failover_forgets_that_it_was_freed(lab: Lab) -> None:
    slots: list[bytes] = []

    @stage(rate=Rate(FAST, by="host", concurrency=1))
    async def fetch(call: Call) -> None:
        slots.extend(await lab.command(b"ZRANGE", keys.slots("fetch"), 0, -1))

    pipeline = Pipeline("p", fetch)
    keys = lab.broker(pipeline).keys
    async with lab.running(pipeline):
        await handled(lab, pipeline, 1, leaving=keys.slots("fetch"))
        await fail_over_forgetting(lab, (b"ZADD", keys.slots("fetch"), 0, slots[0]))
        await handled(lab, pipeline, 2, leaving=keys.slots("fetch"))


async def test_a_hold_ends_though_a_failover_forgets_that_it_has_ended(lab: Lab) -> None:
    holds: list[bytes] = []

    @stage(rate=Rate(FAST, by="host"), retry=Retry(attempts=2))
    async def fetch(call: Call) -> None:
        hold = await lab.command(b"HGET", keys.hold_info("fetch"), "a")
        if hold is None:
            raise RetryLater("busy", after=0.1, hold="host")
        holds.append(hold)

    pipeline = Pipeline("p", fetch)
    keys = lab.broker(pipeline).keys
    async with lab.running(pipeline):
        await handled(lab, pipeline, 1, leaving=keys.hold_info("fetch"))
        hold = (b"HSET", keys.hold_info("fetch"), "a", holds[0]), (b"ZADD", keys.held_until("fetch"), 1, "a")
        await fail_over_forgetting(lab, *hold)
        await handled(lab, pipeline, 2, leaving=keys.hold_info("fetch"))


async def handled(lab: Lab, pipeline: Pipeline, n: int, *, leaving: str) -> None:
    """Push one message of a key. Return once `n` are done in all, and a key of Redis is gone again."""
    await lab.push(pipeline, "fetch", *calls(a=1))

    async def is_over() -> bool:
        return (await lab.balance(pipeline))["fetch"].ok == n and not await lab.command(b"EXISTS", leaving)

    await eventually(is_over)


async def fail_over_forgetting(lab: Lab, *before: tuple[Any, ...]) -> None:
    """What workers see of a failover: their connections end, and something is again as it was before."""
    for command in before:
        await lab.command(*command)
    await lab.command(b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes")


async def test_whatever_becomes_of_a_message_its_slot_is_free_again(kit: Kit) -> None:
    @stage(concurrency=8, rate=Rate(FAST, by="host", concurrency=1), retry=Retry(attempts=2, base="1m"), timeout="1m")
    async def fetch(call: Call, ctx: Context) -> Call | None:
        match call.n % 6:
            case 0:
                raise Reject("gone")
            case 1:
                raise ConnectionError
            case 2 if ctx.attempt == 1:
                raise RetryLater("later", after="1h")
            case 3:
                return None
            case 4 if ctx.attempt == 1:
                await asyncio.sleep(3600)
        return call

    @stage
    async def keep(call: Call) -> None: ...

    async with kit(Pipeline("p", fetch >> keep)) as h:
        await h.feed(fetch, *calls(a=18, b=18))
        await h.drain()

        fetched = h.balance()["fetch"]
        assert (fetched.ok, fetched.filtered, fetched.dead, fetched.retries) == (18, 6, 12, 18)


async def test_slots_hold_for_stages_that_settle_early_and_for_batches(lab: Lab) -> None:
    load = Load()
    rate = Rate(FAST, by="host", concurrency=1)

    @stage(ack="first", rate=rate)
    async def first(call: Call) -> Call:
        await load(f"first {call.host}", 0.005)
        return call

    @stage(ack="manual", rate=rate)
    async def manual(call: Call, ctx: Context) -> None:
        await load(f"manual {call.host}", 0.005)
        await ctx.emit(store, call)
        await ctx.ack()

    @stage(batch=5, linger=0.01, rate=rate)
    async def store(batch: list[Call]) -> None:
        assert max(Counter(call.host for call in batch).values()) == 1
        await load("store", 0.005)

    pipeline = Pipeline("p", first >> manual, store)
    summary = await lab.run(pipeline, *calls(a=8, b=8))

    assert summary.stages["store"].ok == 16
    assert set(load.most) == {"first a", "first b", "manual a", "manual b", "store"}
    assert all(load.most[name] == 1 for name in load.most if name != "store")


async def test_a_stage_that_is_stopped_gives_its_slots_back(lab: Lab) -> None:
    started = asyncio.Event()
    seen: list[int] = []

    @stage(concurrency=4, rate=Rate(FAST, concurrency=2))
    async def fetch(call: Call) -> None:
        if not started.is_set() or len(seen) < 2:
            seen.append(call.n)
            started.set()
            await asyncio.sleep(60)

    pipeline = Pipeline("p", fetch)
    await lab.push(pipeline, fetch, *calls(a=6))
    async with lab.running(pipeline, grace_seconds=0.0):
        await eventually(lambda: len(seen) == 2)
    await drained(lab, pipeline)

    assert (await lab.balance(pipeline))["fetch"].ok == 6


# Rates


async def test_starts_of_a_key_lie_an_interval_apart_over_all_workers(kit: Kit) -> None:
    @stage(rate=Rate(1, per="1h", by="host"))
    async def fetch(call: Call) -> None: ...

    async with kit(Pipeline("p", fetch), workers=2) as h:
        await h.feed(fetch, *calls(a=8, b=8))
        await h.drain()

        for host in "ab":
            # A turn is given by the server's clock and taken a moment after it.
            assert [round(wait) for wait in seconds_between(of_host(host, h.calls(fetch)))] == [3600] * 7


def of_host(host: str, calls: Sequence[testing.Call]) -> list[testing.Call]:
    return [call for call in calls if call.message.host == host]


async def test_each_key_keeps_the_rate_of_its_own_over_all_workers_while_the_others_run(kit: Kit) -> None:
    load, seconds = Load(), {"a": 0.1, "b": 0.4, "c": 1.0}
    keys = {"b": Rate(1, per=seconds["b"]), "c": Rate(1, per=seconds["c"], concurrency=1)}

    @stage(rate=Rate(1, per=seconds["a"], by="host", keys=keys))
    async def fetch(call: Call) -> None:
        await load(call.host, 1.2 if call.host == "c" else 0)

    async with kit(Pipeline("p", fetch), workers=2) as h:
        began_at = h.now
        await h.feed(fetch, *calls(a=41, b=11, c=5))
        await h.drain()

        assert load.most["c"] == 1
        for host, interval in seconds.items():
            starts = [(call.at - began_at).total_seconds() for call in of_host(host, h.calls(fetch))]
            # A start may be later than its turn, which makes the next gap look short, but it is never earlier.
            assert all(start >= n * interval for n, start in enumerate(starts))
            assert starts[-1] == pytest.approx(4.8 if host == "c" else 4.0, abs=0.1)


async def test_a_queue_whose_worker_has_died_is_called_though_other_keys_are_busy_all_the_time(lab: Lab) -> None:
    left = asyncio.Event()

    @stage(concurrency=4, rate=Rate(FAST, by="host", concurrency=1))
    async def fetch(call: Call, ctx: Context) -> None:
        if call.host == "left":
            left.set()
        elif not left.is_set():
            await asyncio.sleep(0.005)
            await ctx.emit(fetch, call)

    pipeline = Pipeline("p", fetch)
    keys = lab.broker(pipeline).keys
    await lab.command(b"HSET", keys.workers, "gone", "{}")
    await lab.command(b"SET", keys.lease("gone"), 1, b"PX", 60_000)
    await lab.command(b"ZADD", keys.slots("fetch"), 0, b"left\ngone\n>fetch|1-1")
    async with lab.running(pipeline):
        await lab.push(pipeline, fetch, *calls(busy=8, left=1))
        await eventually(lambda: is_queued(lab, keys.queue("fetch"), b"left"))
        await lab.command(b"HDEL", keys.workers, "gone")  # its slot lapses, and it gives nothing back
        await eventually(left.is_set)
        await eventually(lambda: is_drained(lab, pipeline))


async def is_queued(lab: Lab, queue: str, key: bytes) -> bool:
    return bool(await lab.command(b"ZLEXCOUNT", queue, b"[" + key + b"\n", b"(" + key + b"\x0b"))


async def test_an_adaptive_key_is_slowed_by_its_failures_and_others_are_not(kit: Kit) -> None:
    @stage(rate=Rate(1, per="5s", by="host", adaptive=True), retry=Retry(attempts=1))
    async def fetch(call: Call) -> None:
        if call.host == "bad":
            raise ConnectionError

    async with kit(Pipeline("p", fetch)) as h:
        await h.feed(fetch, *calls(bad=6, good=6))
        await h.drain()

        good, bad = (seconds_between(of_host(host, h.calls(fetch))) for host in ("good", "bad"))
        assert [round(wait) for wait in good] == [5] * 5
        assert round(bad[0]) == 5  # that turn was given before a failure could count
        assert all(wait >= least for wait, least in zip(bad, [5, 10, 20, 40, 60], strict=True))


async def test_what_is_kept_of_keys_does_not_grow_with_the_number_of_keys_there_were(any_lab: Lab) -> None:
    @stage(concurrency=50, rate=Rate(FAST, by="host", keys={"slow": Rate(1, per=1000)}))
    async def fetch(call: Call) -> None: ...

    pipeline = Pipeline("p", fetch)
    keys = any_lab.broker(pipeline).keys
    await any_lab.push(pipeline, fetch, *[Call(host=f"host{n}") for n in range(1500)], *calls(slow=3))
    async with any_lab.running(pipeline):

        async def are_all_handled() -> bool:
            balance = (await any_lab.balance(pipeline))["fetch"]
            return (balance.ok, balance.delayed) == (1501, 2)

        async def is_all_that_is_kept() -> bool:
            return await any_lab.command(b"HKEYS", keys.rate("fetch")) == [b"slow"]

        await eventually(are_all_handled)
        await eventually(is_all_that_is_kept)


# Standstills


async def test_after_a_worker_has_stood_still_no_more_start_in_a_second_than_the_rate_allows(lab: Lab) -> None:
    starts: list[float] = []

    @stage(concurrency=20, rate=Rate(50))
    async def paced(call: Call) -> None:
        starts.append(asyncio.get_running_loop().time())

    @stage
    async def stall(call: Call) -> None:
        time.sleep(0.8)  # noqa: ASYNC251  (the whole worker, as under SIGSTOP)

    async def has_started(n: int) -> bool:
        return len(starts) >= n

    pipeline = Pipeline("p", paced, stall)
    await lab.push(pipeline, paced, *calls(a=150))
    async with lab.running(pipeline):
        for n in (20, 70):
            await eventually(partial(has_started, n))
            await lab.push(pipeline, stall, Call(host="any"))
        await eventually(partial(has_started, 150))

    late_seconds = 0.1  # by which a start may miss its turn
    assert max(sum(first <= start < first + 1 for start in starts) for first in starts) <= 50 * (1 + late_seconds) + 1
