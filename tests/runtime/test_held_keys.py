"""Keys that are held: they wait alone, and one message tries them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from flowq import BatchFailed, Context, Pipeline, Rate, Retry, RetryLater, stage
from flowq.inspector import Inspector
from tests.eventually import eventually
from tests.runtime.calls import FAST, Call, calls, is_drained
from tests.runtime.lab import Lab


async def test_a_hold_stops_its_key_alone_and_costs_no_other_message_an_attempt(any_lab: Lab) -> None:
    starts: defaultdict[str, list[float]] = defaultdict(list)
    attempts: set[int] = set()

    @stage(concurrency=4, rate=Rate(FAST, by="host", concurrency=1), retry=Retry(attempts=2))
    async def fetch(call: Call, ctx: Context) -> None:
        starts[call.host].append(asyncio.get_running_loop().time())
        attempts.add(ctx.attempt)
        if len(starts["busy"]) == 1 and call.host == "busy":
            raise RetryLater("HTTP 429", after=1.0, hold="host")

    summary = await any_lab.run(Pipeline("p", fetch), *calls(busy=20, free=20))

    assert (summary.stages["fetch"].ok, summary.stages["fetch"].retries) == (40, 1)
    assert attempts == {1}
    first, second, *_ = starts["busy"]
    assert second - first >= 1.0
    assert any(first < start < second for start in starts["free"])


async def test_after_a_hold_one_message_alone_tries_the_key(lab: Lab) -> None:
    log: list[str] = []

    @stage(concurrency=8, rate=Rate(FAST, by="host"))
    async def fetch(call: Call) -> None:
        log.append("start")
        await asyncio.sleep(0.05)
        log.append("end")
        if log.count("start") == 1 + log.count("held"):
            log.append("held")
            if log.count("held") <= 3:
                raise RetryLater("HTTP 503", after=0.05, hold="host")

    pipeline = Pipeline("p", fetch)
    async with lab.running(pipeline):
        await lab.push(pipeline, fetch, Call(host="a", n=-1))
        await eventually(lambda: "start" in log)
        await eventually(lambda: "held" in log)
        await lab.push(pipeline, fetch, *calls(a=10))
        await eventually(lambda: is_drained(lab, pipeline))

    assert log[:12] == ["start", "end", "held"] * 4
    assert (await lab.balance(pipeline))["fetch"].ok == 11


async def test_held_keys_are_listed_with_the_reason_and_the_time_left(lab: Lab) -> None:
    @stage(rate=Rate(FAST, by="host", concurrency=1))
    async def fetch(call: Call) -> None:
        if call.host == "busy":
            raise RetryLater("HTTP 429", after=60, hold="host")

    pipeline = Pipeline("p", fetch)
    async with lab.running(pipeline):
        await lab.push(pipeline, fetch, *calls(busy=5, free=5))
        await eventually(lambda: waiting(lab, pipeline, 5))

    (held,) = await Inspector(pipeline.plan, lab.broker(pipeline)).held_keys()
    assert (held.stage, held.key, held.reason, held.waiting) == ("fetch", "busy", "HTTP 429", 4)
    assert 50 < held.seconds_left <= 60


async def waiting(lab: Lab, pipeline: Pipeline, n: int) -> bool:
    balance = (await lab.balance(pipeline))["fetch"]
    return balance.delayed == n and balance.outstanding == n


async def test_a_batch_holds_the_keys_of_the_messages_that_asked_for_it(lab: Lab) -> None:
    batches: list[Sequence[str]] = []

    @stage(batch=10, linger=0.05, concurrency=1, rate=Rate(FAST, by="host"))
    async def send(batch: list[Call], ctx: Context) -> None:
        batches.append(sorted(call.host for call in batch))
        busy = [index for index, call in enumerate(batch) if call.host == "busy"]
        if busy and len(batches) == 1:
            raise BatchFailed({index: RetryLater("HTTP 429", after=0.1, hold="host") for index in busy})

    pipeline = Pipeline("p", send)
    summary = await lab.run(pipeline, *calls(busy=3, free=3))

    assert batches[0] == ["busy"] * 3 + ["free"] * 3
    assert batches[1] == ["busy"]
    assert sorted(host for batch in batches[2:] for host in batch) == ["busy"] * 2
    assert (summary.stages["send"].ok, summary.stages["send"].retries) == (6, 3)


async def test_a_hold_for_all_of_a_batch_holds_the_key_of_each(lab: Lab) -> None:
    at: defaultdict[str, list[float]] = defaultdict(list)

    @stage(batch=10, linger=0.05, concurrency=1, rate=Rate(FAST, by="host"))
    async def send(batch: list[Call]) -> None:
        now = asyncio.get_running_loop().time()
        for call in batch:
            at[call.host].append(now)
        if len(at["a"]) == 1:
            raise RetryLater("maintenance", after=0.2, hold="host")

    await lab.run(Pipeline("p", send), *calls(a=1, b=1))

    assert all(second - first >= 0.2 for times in at.values() for first, second in pairwise(times))
    assert {host: len(times) for host, times in at.items()} == {"a": 2, "b": 2}
