"""The clock of a harness: everything that waits follows it, and waiting costs nothing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta

import pytest

from flowq import Context, Dedup, Pipeline, Rate, Retry, RetryLater, stage
from flowq.errors import UsageError
from flowq.testing import Harness, harness
from flowq.testing.scenario import START

MOST_EVENTS_PER_CALL = 30
"""Of a handler. Workers that only wait ask Redis once a second, which would be 86,400 events a day."""


@dataclass
class Request:
    host: str
    n: int = 0


@stage
async def keep(number: int) -> None: ...


def starts(h: Harness, stage: object) -> list[float]:
    """When the calls of a stage began, in seconds from the start of the harness."""
    return [(call.at - START).total_seconds() for call in h.calls(stage)]


async def test_hours_of_backoff_cost_what_their_attempts_cost() -> None:
    @stage(retry=Retry(attempts=6, base="1h", max="100h", jitter=False))
    async def stubborn(number: int, ctx: Context) -> None:
        if ctx.attempt < 6:
            raise OSError("down")

    async with harness(Pipeline("p", stubborn)) as h:
        await h.feed(stubborn, 1)
        await h.drain()

        hours = [round(at / 3600) for at in starts(h, stubborn)]
        assert hours == [0, 1, 3, 7, 15, 31]
        assert h.now - START > timedelta(hours=31)
        assert len(h.trace) < MOST_EVENTS_PER_CALL * len(hours)


async def test_a_day_of_retries_and_holds_costs_what_its_attempts_cost() -> None:
    @stage(rate=Rate(10, by="host"), retry=Retry(attempts=100))
    async def fetch(request: Request, ctx: Context) -> int:
        if request.host == "busy" and h.now < START + timedelta(days=1):
            raise RetryLater("HTTP 429", after="1h", hold="host")
        if request.host == "down" and h.now < START + timedelta(days=1):
            raise RetryLater("HTTP 503", after="1h")
        return request.n

    async with harness(Pipeline("p", fetch >> keep)) as h:
        await h.feed(fetch, Request("busy", 1), Request("down", 2))
        await h.drain()

        h.expect(keep).any_order([1, 2])
        assert h.now >= START + timedelta(days=1)
        assert len(h.trace) < MOST_EVENTS_PER_CALL * len(h.calls(fetch))


async def test_four_stages_handle_a_thousand_inputs_in_fewer_calls_to_redis_than_inputs() -> None:
    @stage
    async def fetch(number: int) -> int:
        return number

    @stage(concurrency=8)
    async def parse(number: int) -> int:
        return number + 1

    @stage(batch=100, linger="10ms")
    async def enrich(numbers: list[int]) -> list[int]:
        return numbers

    async with harness(Pipeline("p", fetch >> parse >> enrich >> keep)) as h:
        await h.feed(fetch, *range(1000))
        await h.drain()
        h.expect(keep).any_order(range(1, 1001))
        assert len(h.trace) < 1000


async def test_the_clock_moves_by_exactly_what_it_is_told() -> None:
    async with harness(Pipeline("p", keep)) as h:
        before = h.now
        await h.advance(minutes=5)
        assert h.now - before == timedelta(minutes=5)
        await h.advance(days=1, hours=2, seconds=0.5)
        assert h.now - before == timedelta(days=1, hours=2, minutes=5, seconds=0.5)
        with pytest.raises(UsageError, match="time cannot move by -1 s"):
            await h.advance(seconds=-1)


async def test_at_the_end_of_an_advance_workers_have_noticed_what_polls_show() -> None:
    async with harness(Pipeline("p", keep)) as h:
        await h.advance(hours=1)

        polls = {event.what for event in h.trace if event.at_seconds >= 3600 - 1}
        assert {"renew", "record_throughput", "hgetall"} <= polls


async def test_a_delayed_message_starts_when_it_is_due_and_not_before() -> None:
    async with harness(Pipeline("p", keep)) as h:
        await h.feed(keep, 1, delay="1h")
        (waiting,) = h.waiting(keep)
        assert (waiting.message, waiting.state) == (1, "delayed")
        assert waiting.due is not None
        assert abs(waiting.due - START - timedelta(hours=1)) < timedelta(seconds=1)

        await h.advance(minutes=59)
        assert h.calls(keep) == []
        await h.advance(minutes=2)
        assert len(h.calls(keep)) == 1
        assert starts(h, keep)[0] == pytest.approx(3600, abs=1)


async def test_a_rate_follows_the_clock() -> None:
    @stage(rate=Rate(1, per=60, burst=1))
    async def slowly(number: int) -> None: ...

    async with harness(Pipeline("p", slowly)) as h:
        await h.feed(slowly, *range(10))
        await h.drain()

        first, *others = starts(h, slowly)
        assert [round((at - first) / 60) for at in others] == list(range(1, 10))


async def test_a_held_key_is_seen_and_ends_by_the_clock() -> None:
    @stage(rate=Rate(10, by="host"))
    async def fetch(request: Request) -> int:
        if len(h.calls(fetch)) == 1:
            raise RetryLater("HTTP 429", after="30m", hold="host")
        return request.n

    async with harness(Pipeline("p", fetch)) as h:
        await h.feed(fetch, Request("a", 1))
        await h.advance(minutes=1)
        (held,) = h.held()
        assert (held.stage, held.key, held.reason) == ("fetch", "a", "HTTP 429")
        assert held.seconds_left == pytest.approx(29 * 60, abs=2)

        await h.drain()
        h.expect(fetch).exactly([1])
        assert starts(h, fetch)[1] == pytest.approx(1800, abs=5)


async def test_a_timeout_follows_the_clock() -> None:
    @stage(timeout="10m", retry=Retry(attempts=1))
    async def hangs(number: int) -> None:
        await asyncio.sleep(number)

    async with harness(Pipeline("p", hangs)) as h:
        await h.feed(hangs, 599, 601)
        await h.drain()

        h.expect(hangs).exactly([599])
        (dead,) = h.dead(hangs)
        assert "ran longer than 600 s" in dead.error


async def test_a_linger_follows_the_clock() -> None:
    @stage(batch=10, linger="5m")
    async def together(numbers: list[int]) -> None: ...

    async with harness(Pipeline("p", together)) as h:
        await h.feed(together, 1, 2)
        await h.advance(minutes=4)
        assert h.calls(together) == []
        await h.drain()

        assert [call.message for call in h.calls(together)] == [[1, 2]]
        assert starts(h, together) == [pytest.approx(300, abs=1)]


async def test_what_a_stage_has_seen_is_forgotten_by_the_clock() -> None:
    @stage(dedup=Dedup(by=lambda number: number, ttl="1h"))
    async def once(number: int) -> None: ...

    async with harness(Pipeline("p", once)) as h:
        await h.feed(once, 1)
        await h.drain()
        await h.advance(minutes=50)
        await h.feed(once, 1)
        await h.drain()
        h.expect(once).exactly([1])

        await h.advance(minutes=20)
        await h.feed(once, 1)
        await h.drain()
        h.expect(once).exactly([1, 1])


async def test_a_handler_on_a_thread_takes_no_time_of_the_clock() -> None:
    @stage
    def blocking(number: int) -> int:
        time.sleep(0.01)
        return number

    async with harness(Pipeline("p", blocking >> keep)) as h:
        await h.feed(blocking, *range(10))
        await h.drain()

        h.expect(keep).any_order(range(10))
        assert h.now - START < timedelta(seconds=0.2)


async def test_a_handler_may_sleep_for_hours() -> None:
    @stage
    async def sleepy(number: int) -> int:
        await asyncio.sleep(3600 * number)
        return number

    async with harness(Pipeline("p", sleepy)) as h:
        await h.feed(sleepy, 5, 3, 20)
        await h.drain()

        h.expect(sleepy).any_order([3, 5, 20])
        assert len(h.calls(sleepy)) == 3  # no lease has ended meanwhile


async def test_a_lease_that_ends_is_noticed_by_the_clock() -> None:
    from flowq.testing.faults import Crash

    @stage
    async def work(number: int) -> int:
        return number

    async with harness(Pipeline("p", work), faults=[Crash(work, before="handler")], lease="1m") as h:
        await h.feed(work, 1)
        await h.drain()

        h.expect(work).exactly([1])
        assert [call.worker for call in h.calls(work)] == ["w1", "w2"]
        assert 30 < starts(h, work)[1] < 120
