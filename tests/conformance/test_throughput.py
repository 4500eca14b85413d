"""Throughput: readers see what workers record, of this run and of the last half minute only."""

from __future__ import annotations

import pytest

from flowq.broker.inspection.throughput import Throughput, Throughputs, bucket_of
from flowq.broker.keys import Keys
from flowq.broker.runs import Runs
from tests.conformance.conftest import Command
from tests.conformance.worker import PLAN, Worker, done
from tests.eventually import eventually


async def throughput(worker: Worker) -> Throughput:
    return (await Throughputs(worker.broker).of(PLAN, await worker.snapshot()))["parse"]


async def server_ms(redis: Command) -> int:
    seconds, microseconds = await redis(b"TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


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
    began_ms = await server_ms(redis)
    await Throughputs(worker.broker).record({})
    await worker.settle(*map(done, deliveries[10:]))

    async def enough_has_passed() -> bool:
        return (await throughput(worker)).per_second is not None

    await eventually(enough_has_passed)
    found = await throughput(worker)
    passed_ms = await server_ms(redis) - began_ms

    assert found.per_second == pytest.approx(20 * 1000 / passed_ms, rel=0.3)


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
