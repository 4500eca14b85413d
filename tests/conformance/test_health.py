"""Health by leases: which workers are silent, lost or starting, and what an unresponsive Redis means."""

from __future__ import annotations

import asyncio
import os

import pytest

from flowq.broker.client.connection import Dialer, UrlDialer
from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.reader import Reader
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers, heartbeat
from flowq.monitoring.worker_health import Doctor, workers_of
from flowq.runtime.identity import process_facts
from tests.conformance.worker import Worker
from tests.eventually import eventually


async def sign_on(worker: Worker, *, silent_seconds: float = 0.0, lease_ms: int = 60_000) -> None:
    text = heartbeat(1, silent_seconds)
    await Workers(worker.broker).register("w1", process_facts(), lease_ms=lease_ms, heartbeat=text)


@pytest.mark.parametrize(("silent_seconds", "is_well"), [(0.0, True), (29.0, True), (31.0, False)])
async def test_a_worker_that_has_read_nothing_for_half_a_minute_is_unhealthy(
    worker: Worker, silent_seconds: float, is_well: bool
) -> None:
    await sign_on(worker, silent_seconds=silent_seconds)
    doctor = Doctor(worker.broker, lambda: [os.getpid()])

    alive, ready = await doctor.alive(), await doctor.ready()

    assert (alive.is_good, ready.is_good) == (is_well, is_well)
    assert bool(alive.about["faults"]) is not is_well


async def test_a_process_that_has_not_signed_on_yet_is_alive_but_not_ready(worker: Worker) -> None:
    doctor = Doctor(worker.broker, lambda: [os.getpid()])

    assert (await doctor.alive()).is_good
    assert not (await doctor.ready()).is_good


async def test_workers_of_other_processes_are_ignored(worker: Worker) -> None:
    await sign_on(worker, silent_seconds=1000)

    assert (await Doctor(worker.broker, lambda: [os.getpid() + 1]).alive()).is_good


async def test_a_lease_that_has_run_out_is_seen(worker: Worker) -> None:
    await sign_on(worker, lease_ms=1)

    async def is_lost() -> bool:
        (found,) = [found for found in await workers_of(worker.broker) if found.worker == "w1"]
        return "lost its lease" in (found.fault() or "")

    await eventually(is_lost)


async def test_without_redis_a_process_is_alive_but_not_ready() -> None:
    broker = Broker(UrlDialer("redis://127.0.0.1:1"), Keys("flowq", "lab"))
    doctor = Doctor(broker, lambda: [os.getpid()])

    assert (await doctor.alive()).is_good
    assert not (await doctor.ready()).is_good


async def test_a_reader_without_an_answer_grows_silent_until_it_has_one(real_dialer: Dialer, keys: Keys) -> None:
    worker = await Worker.sign_on(real_dialer, keys, "first")
    reader = Reader(worker.broker, [">parse"])
    await Edges(worker.broker).ensure_groups([">parse"])
    assert reader.silent_seconds == 0

    reading = asyncio.create_task(reader.read("w1", count=1, block_ms=10_000))
    await eventually(lambda: reader.silent_seconds > 0.2)
    await worker.publish(b"1", edge=">parse")
    await reading

    assert reader.silent_seconds == 0
    await reader.close()
    await worker.close()
