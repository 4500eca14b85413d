"""Keys that are held: they wait alone, and one message tries them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from flowq import BatchFailed, Pipeline, Rate, Retry, RetryLater, stage
from tests.runtime.calls import FAST, Call, calls
from tests.runtime.kit import Kit, seconds_between


async def test_a_hold_stops_its_key_alone_and_costs_no_other_message_an_attempt(kit: Kit) -> None:
    is_busy = True

    @stage(concurrency=4, rate=Rate(FAST, by="host", concurrency=1), retry=Retry(attempts=2))
    async def fetch(call: Call) -> None:
        nonlocal is_busy
        if call.host == "busy" and is_busy:
            is_busy = False
            raise RetryLater("HTTP 429", after="1h", hold="host")

    async with kit(Pipeline("p", fetch)) as h:
        await h.feed(fetch, *calls(busy=20, free=20))
        await h.drain()

        assert (h.balance()["fetch"].ok, h.balance()["fetch"].retries) == (40, 1)
        assert {call.attempt for call in h.calls(fetch)} == {1}
        first, second, *_ = (call.at for call in h.calls(fetch) if call.message.host == "busy")
        assert timedelta(hours=1) <= second - first < timedelta(hours=1, seconds=1)
        assert all(call.at < second for call in h.calls(fetch) if call.message.host == "free")


async def test_after_a_hold_one_message_alone_tries_the_key(kit: Kit) -> None:
    log: list[str] = []

    @stage(concurrency=8, rate=Rate(FAST, by="host"))
    async def fetch(call: Call) -> None:
        log.append("start")
        await asyncio.sleep(0.05)
        log.append("end")
        if log.count("start") == 1 + log.count("held"):
            log.append("held")
            if log.count("held") <= 3:
                raise RetryLater("HTTP 503", after="1h", hold="host")

    async with kit(Pipeline("p", fetch)) as h:
        await h.feed(fetch, Call(host="a", n=-1))
        await h.advance(minutes=1)
        assert log == ["start", "end", "held"]
        await h.feed(fetch, *calls(a=10))
        await h.drain()

        assert log[:12] == ["start", "end", "held"] * 4
        assert h.balance()["fetch"].ok == 11


async def test_held_keys_are_listed_with_the_reason_and_the_time_left(kit: Kit) -> None:
    is_busy = True

    @stage(rate=Rate(FAST, by="host", concurrency=1))
    async def fetch(call: Call) -> None:
        if call.host == "busy" and is_busy:
            raise RetryLater("HTTP 429", after="1h", hold="host")

    async with kit(Pipeline("p", fetch)) as h:
        await h.feed(fetch, *calls(busy=5, free=5))
        await h.advance(minutes=10)

        assert sorted(waiting.state for waiting in h.waiting()) == ["delayed"] + ["queued"] * 4
        (held,) = h.held()
        assert (held.stage, held.key, held.reason, held.waiting) == ("fetch", "busy", "HTTP 429", 4)
        assert round(held.seconds_left) == 3000
        is_busy = False


async def test_a_batch_holds_the_keys_of_the_messages_that_asked_for_it(kit: Kit) -> None:
    n_batches = 0

    @stage(batch=10, linger="1s", concurrency=1, rate=Rate(FAST, by="host"))
    async def send(batch: list[Call]) -> None:
        nonlocal n_batches
        n_batches += 1
        busy = [index for index, call in enumerate(batch) if call.host == "busy"]
        if busy and n_batches == 1:
            raise BatchFailed({index: RetryLater("HTTP 429", after="1h", hold="host") for index in busy})

    async with kit(Pipeline("p", send)) as h:
        await h.feed(send, *calls(busy=3, free=3))
        await h.drain()

        batches = [sorted(call.host for call in batch.message) for batch in h.calls(send)]
        assert batches[0] == ["busy"] * 3 + ["free"] * 3
        assert batches[1] == ["busy"]
        assert sorted(host for batch in batches[2:] for host in batch) == ["busy"] * 2
        assert seconds_between(h.calls(send))[0] >= 3600
        assert (h.balance()["send"].ok, h.balance()["send"].retries) == (6, 3)


async def test_a_hold_for_all_of_a_batch_holds_the_key_of_each(kit: Kit) -> None:
    n_calls = 0

    @stage(batch=10, linger="1s", concurrency=1, rate=Rate(FAST, by="host"))
    async def send(batch: list[Call]) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            raise RetryLater("maintenance", after="1h", hold="host")

    async with kit(Pipeline("p", send)) as h:
        await h.feed(send, *calls(a=1, b=1))
        await h.drain()

        first, *later = h.calls(send)
        assert sorted(call.host for call in first.message) == ["a", "b"]
        assert sorted(call.host for batch in later for call in batch.message) == ["a", "b"]
        assert all(batch.at - first.at >= timedelta(hours=1) for batch in later)
