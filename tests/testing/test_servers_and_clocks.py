"""The same pipelines on a fake server and on real ones, on a virtual clock and on a real one: the same results."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from flowq import Context, Dedup, Pipeline, Rate, Reject, Retry, RetryLater, stage
from flowq.broker.client.connection import Link, UrlDialer
from flowq.errors import BrokerUnavailable, UsageError
from flowq.testing import Crash, Failover, LostReply, NotDrained, Restart, harness
from tests.conftest import Servers
from tests.redis_server import KINDS, Kind


@pytest.fixture(params=["fake", *KINDS])
def redis(request: pytest.FixtureRequest, redis_server: Servers) -> str | None:
    """The URL of each kind of server, None for the fake one."""
    kind: Kind = request.param
    return None if request.param == "fake" else redis_server(kind).url


@stage(dedup=Dedup(by=lambda number: number))
async def enter(number: int) -> int:
    return number


@stage(retry=Retry(attempts=3, base="1m", max="1h"))
async def check(number: int, ctx: Context) -> int:
    if number == 13:
        raise Reject("unlucky")
    if number % 5 == 0 and ctx.attempt < 3:
        raise OSError("not yet")
    if number == 7 and ctx.attempt < 2:
        raise RetryLater("later", after="6h")
    return 10 * number


@stage(batch=4, linger="30s", rate=Rate(1, per="10s"))
async def store(numbers: list[int]) -> None: ...


PIPELINE = Pipeline("p", enter >> check >> store)


async def test_delays_rates_batches_and_duplicates_end_alike(redis: str | None) -> None:
    async with harness(PIPELINE, redis=redis, workers=2, seed=3) as h:
        start = h.now
        await h.feed(enter, *range(20), 3, 4)
        await h.drain()

        h.expect(store).any_order([10 * n for n in range(20) if n != 13])
        assert [dead.message for dead in h.dead()] == [13]
        assert h.balance()["enter"].duplicates == 2
        assert timedelta(hours=6) < h.now - start < timedelta(hours=7)


@pytest.mark.parametrize(
    "fault", [Crash(check, after="read"), LostReply("settle", nth=2), Restart(), Failover(forget=1)], ids=str
)
async def test_faults_end_alike(redis: str | None, fault: Crash | LostReply | Restart | Failover) -> None:
    async with harness(PIPELINE, redis=redis, workers=2, faults=[fault]) as h:
        await h.feed(enter, *range(10))
        await h.drain()

        assert h.unfired == ()
        if not isinstance(fault, Failover):
            h.expect(store).any_order([10 * n for n in range(10)])


async def test_a_real_server_keeps_all_that_is_not_the_harness_and_nothing_that_is(redis_url: str) -> None:
    server = Link(UrlDialer(redis_url))
    await server.call(b"SET", "mine", "untouched", timeout_seconds=60)
    async with harness(PIPELINE, redis=redis_url) as h:
        await h.feed(enter, 1)
        assert len(await server.call(b"KEYS", b"*", timeout_seconds=60)) > 1
        await h.drain()

    assert await server.call(b"KEYS", b"*", timeout_seconds=60) == [b"mine"]
    await server.close()


async def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1") as refused:
        async with harness(PIPELINE, redis="redis://127.0.0.1:1"):
            pass
    assert refused.value.__cause__ is None  # pytest would print all the frames of redis-py
    assert refused.value.__suppress_context__


# A real clock


@stage(retry=Retry(attempts=2, base="200ms", jitter=False))
async def retried(number: int, ctx: Context) -> int:
    if ctx.attempt == 1:
        raise OSError("not yet")
    return number


@stage
def keep(number: int) -> None: ...


REAL = Pipeline("p", retried >> keep)


async def test_on_a_real_clock_the_same_takes_its_time(redis: str | None) -> None:
    began_at = time.perf_counter()
    async with harness(REAL, redis=redis, clock="real", workers=2) as h:
        await h.feed(retried, 1, 2, 3)
        await h.drain()

        h.expect(keep).any_order([1, 2, 3])
        first, *_, last = [call.at for call in h.calls(retried)]
        assert last - first >= timedelta(seconds=0.2)
        assert abs(h.now - datetime.now(UTC)) < timedelta(seconds=5)
    assert time.perf_counter() - began_at >= 0.2


async def test_on_a_real_clock_the_test_runs_beside_the_workers() -> None:
    has_begun, has_ticked = asyncio.Event(), asyncio.Event()

    async def tick() -> None:
        await has_begun.wait()
        for _ in range(10):
            await asyncio.sleep(0.01)
        has_ticked.set()

    @stage
    async def wait(number: int) -> int:
        has_begun.set()
        await has_ticked.wait()
        return number

    ticking = asyncio.create_task(tick())
    async with harness(Pipeline("p", wait >> keep), clock="real") as h:
        await h.feed(wait, 1)
        await h.advance(seconds=0.1)
        await h.drain()
        h.expect(keep).exactly([1])
    await ticking


async def test_on_a_real_clock_a_worker_that_crashes_is_replaced() -> None:
    async with harness(REAL, clock="real", lease="1s", faults=[Crash(retried, before="handler")]) as h:
        await h.feed(retried, 1)
        await h.drain()

        h.expect(keep).exactly([1])
        assert [call.worker for call in h.calls(retried)] == ["w1", "w2", "w2"]


async def test_on_a_real_clock_harnesses_that_overlap_leave_the_loop_as_it_was() -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    first, second = harness(REAL, clock="real"), harness(REAL, clock="real")

    await first.__aenter__()
    await second.__aenter__()
    await first.__aexit__(None, None, None)
    await second.__aexit__(None, None, None)

    assert loop.get_task_factory() is before


async def test_on_a_real_clock_waiting_has_an_end_as_well() -> None:
    @stage
    async def endless(number: int) -> None:
        await asyncio.Event().wait()

    async def drains() -> None:
        async with harness(Pipeline("p", endless), clock="real") as h:
            await h.feed(endless, 1)
            await h.drain(within="500ms")

    with pytest.raises(NotDrained, match=r"it is not after 500ms\n  endless: 1"):
        await drains()


def test_clocks_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UsageError, match='no clock is called "fake"'):
        harness(REAL, clock="fake")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="has no time zone"):
        harness(REAL, start=datetime(2030, 1, 1))  # noqa: DTZ001
    with pytest.raises(UsageError, match="0 workers"):
        harness(REAL, workers=0)
