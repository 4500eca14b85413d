"""Delayed messages cost nothing until they are due: no more requests to Redis, and no more work in it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from flowq.broker.client.connection import Dialer, UrlDialer
from flowq.broker.publishing import Publishing
from flowq.runtime.housekeeping.jobs import run_job
from flowq.runtime.housekeeping.promoter import Promoter
from tests.conformance.conftest import Command
from tests.conformance.worker import IN, Worker, output

DAY_MS = 86_400_000
WATCHED_SECONDS = 1.5


@pytest.fixture
def dialer(redis_url: str) -> Dialer:
    """Only real servers count their commands."""
    return UrlDialer(redis_url)


async def calls(redis: Command) -> Mapping[str, int]:
    lines = (await redis(b"INFO", b"commandstats")).decode().splitlines()
    counted = (line.removeprefix("cmdstat_").partition(":calls=") for line in lines if ":calls=" in line)
    return {name: int(rest.partition(",")[0]) for name, _, rest in counted if name != "info"}


async def called(worker: Worker, redis: Command) -> int:
    """How many commands a promoter needs in `WATCHED_SECONDS`, those that its script calls included."""
    before = await calls(redis)
    promoter = asyncio.create_task(run_job(worker.broker.world, Promoter(worker.broker, [IN])))
    await asyncio.sleep(WATCHED_SECONDS)  # the period that is measured
    after = await calls(redis)
    promoter.cancel()
    return sum(after.values()) - sum(before.values())


async def test_a_hundred_thousand_delayed_messages_cost_as_many_commands_as_none(
    worker: Worker, redis: Command
) -> None:
    none = await called(worker, redis)
    for _ in range(100):
        messages = [output(IN, b"{}") for _ in range(1000)]
        await Publishing(worker.broker).publish(IN, messages, delay_ms=DAY_MS)

    assert (await worker.balance()).delayed == 100_000
    assert 0 < await called(worker, redis) <= none + 20
    assert none < 60
