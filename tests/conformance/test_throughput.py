"""Throughput: readers see what workers record, of this run and of the last half minute only."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from flowq.broker.inspection.forecasts import ForecastKind
from flowq.broker.inspection.merging.overviews import overview_of
from flowq.broker.inspection.throughput import Throughput, Throughputs, bucket_of
from flowq.broker.keys import Keys
from flowq.broker.publishing import Publishing
from flowq.broker.runs import Runs
from tests.conformance.conftest import Command, server_ms
from tests.conformance.worker import EDGES, IN, OUT, PLAN, Worker, done, output, retried
from tests.eventually import eventually


async def throughput(worker: Worker) -> Throughput:
    return (await Throughputs(worker.broker).of(PLAN, await worker.snapshot()))["parse"]


async def test_durations_of_all_workers_are_taken_together(worker: Worker, other: Worker) -> None:
    await Throughputs(worker.broker).record({"parse": {bucket_of(0.010): 6}})
    await Throughputs(other.broker).record(
        {"parse": {bucket_of(0.010): 3, bucket_of(1.0): 1}, "store": {bucket_of(9.0): 1}}
    )

    found = await throughput(worker)

    assert found.p50_seconds == pytest.approx(0.010, rel=0.1)
    assert found.p95_seconds == pytest.approx(1.0, rel=0.1)


async def test_the_rate_is_what_the_counters_grew_by_over_the_time_that_passed(worker: Worker, redis: Command) -> None:
    await worker.publish(*[b"x"] * 30)
    deliveries = await worker.read(30)
    await worker.settle(*map(done, deliveries[:10]))  # before the record begins: not of this half minute
    before_ms = await server_ms(redis)
    await Throughputs(worker.broker).record({})
    after_ms = await server_ms(redis)
    await worker.settle(*map(done, deliveries[10:]))

    async def enough_has_passed() -> bool:
        return (await throughput(worker)).per_second is not None

    await eventually(enough_has_passed)
    snapshot = await worker.snapshot()
    found = (await Throughputs(worker.broker).of(PLAN, snapshot))["parse"]

    assert found.per_second is not None
    assert 20_000 / (snapshot.now_ms - before_ms) <= found.per_second <= 20_000 / (snapshot.now_ms - after_ms)


async def test_nothing_is_known_of_a_pipeline_without_workers(worker: Worker) -> None:
    assert await throughput(worker) == Throughput()


async def test_what_was_recorded_in_another_run_does_not_count(worker: Worker) -> None:
    await Throughputs(worker.broker).record({"parse": {bucket_of(5.0): 10}})

    await Runs(worker.broker).begin("next", sources=[], signature="", edges=[], stages=[])
    assert await throughput(worker) == Throughput()
    await Throughputs(worker.broker).record({"parse": {bucket_of(0.010): 1}})

    assert (await throughput(worker)).p95_seconds == pytest.approx(0.010, rel=0.1)


async def test_the_record_expires(worker: Worker, keys: Keys, redis: Command) -> None:
    await Throughputs(worker.broker).record({"parse": {0: 1}})

    records = keys.throughput()
    lives = [left for record in records if (left := await redis(b"PTTL", record)) != -2]
    assert lives
    assert all(0 < left <= 35_000 for left in lives)


async def test_a_record_that_cannot_be_written_stops_no_worker(worker: Worker, keys: Keys, redis: Command) -> None:
    for i in range(8):
        await redis(b"SET", keys.throughput()[i], "somebody's")

    await Throughputs(worker.broker).record({"parse": {0: 1}})

    assert await throughput(worker) == Throughput()


# What the edges hold


async def levels(worker: Worker) -> list[Mapping[str, int]]:
    return [held for _, held in (await overview_of(worker.broker, PLAN)).recorded.levels]


async def test_the_messages_of_each_edge_are_counted_once_in_a_period(worker: Worker, other: Worker) -> None:
    await worker.publish(*[b"x"] * 30)
    await worker.settle(*map(retried, await worker.read(4)), *map(done, await worker.read(6)))

    await Throughputs(worker.broker).record({}, edges=EDGES)
    await Throughputs(other.broker).record({}, edges=EDGES)
    await worker.publish(b"x")
    await Throughputs(worker.broker).record({}, edges=EDGES)

    found = await levels(worker)
    assert found[0] == {IN: 24, OUT: 0, ">store": 0}
    assert len(found) <= 2  # a period may have ended in between


async def test_records_of_a_worker_that_counts_nothing_are_read_as_before(worker: Worker, redis: Command) -> None:
    await worker.publish(*[b"x"] * 30)
    await Throughputs(worker.broker).record({"parse": {bucket_of(0.010): 6}})

    assert await levels(worker) == []
    found = await overview_of(worker.broker, PLAN)
    assert found.stages["parse"].throughput.p50_seconds == pytest.approx(0.010, rel=0.1)
    assert IN not in found.forecasts  # unknown, which is not "steady"
    assert found.forecasts[OUT].kind is ForecastKind.EMPTY


async def test_an_edge_that_another_program_has_replaced_is_not_counted(worker: Worker, redis: Command) -> None:
    await redis(b"SET", worker.broker.keys.delayed(OUT), b"not ours")

    await Throughputs(worker.broker).record({"parse": {bucket_of(0.010): 1}}, edges=EDGES)

    (record,) = [r for key in worker.broker.keys.throughput() if (r := await redis(b"HGETALL", key))]
    assert b"outstanding:" + IN.encode() in record
    assert b"outstanding:" + OUT.encode() not in record


async def test_an_edge_that_fills_is_full_in_the_time_that_follows_from_its_records(
    worker: Worker, redis: Command
) -> None:
    """The records of half a minute are written here as workers would write them; the oracle is the rule of three."""
    await Publishing(worker.broker).publish(OUT, [output(OUT, b"y") for _ in range(700)])
    now_ms = await server_ms(redis)
    for seconds_ago in range(5, 31, 5):
        at_ms, held = now_ms - 1000 * seconds_ago, 700 - 20 * seconds_ago
        key = worker.broker.keys.throughput()[at_ms // 5000 % 8]
        await redis(
            b"HSET", key, b"period", b"%d " % (at_ms // 5000), b"run", b"", b"at", b"%d" % at_ms,
            b"counted_at", b"%d" % at_ms, b"outstanding:" + OUT.encode(), b"%d" % held,
        )  # fmt: skip

    forecast = (await overview_of(worker.broker, PLAN)).forecasts[OUT]
    maxsize = PLAN.edge_by_name[OUT].maxsize

    assert forecast.kind is ForecastKind.FULL_IN
    assert forecast.seconds == pytest.approx((maxsize - 700) / 20, rel=0.02)
