"""A pipeline that counts, checks and keeps numbers, run by a worker in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from flowq import Pipeline, Reject, Retry, source, stage
from flowq.broker.publishing import Publishing
from flowq.broker.redis_streams import Broker
from flowq.delivery.message import Header
from flowq.delivery.settlement import Output
from flowq.graph.compilation.plan import Plan
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import Run, RunOptions
from tests.eventually import eventually

Verdict = Callable[[int], str]
"""Why a number is bad; "" when it is good."""


def is_even(n: int) -> str:
    return "" if n % 2 else "even"


def is_never_bad(n: int) -> str:
    return ""


def numbers(n: int = 10, *, check: Verdict = is_never_bad, keep: Verdict = is_never_bad, attempts: int = 1) -> Plan:
    """Count to `n`, check each number, keep each; either stage may find one bad. Stored: how often each was kept."""

    @source
    def count() -> Iterator[int]:
        yield from range(n)

    @stage(retry=Retry(attempts=attempts, base=0.001))
    async def checked(number: int) -> int:
        if why := check(number):
            raise ValueError(why)
        return number

    @stage(concurrency=1)
    async def kept(number: int) -> None:
        if why := keep(number):
            raise Reject(why)

    return Pipeline("numbers", count >> checked >> kept).plan


@asynccontextmanager
async def worker(plan: Plan, broker: Broker) -> AsyncIterator[Run]:
    """A worker for the stages of a plan, and its sources if they have not finished."""
    run = Run(plan, broker)
    sources = await run.begin(RunOptions())
    runner = Runner(plan, broker, RunOptions(), sources=sources)
    await runner.start()
    try:
        yield run
    finally:
        await runner.stop()


async def work_off(plan: Plan, broker: Broker) -> None:
    """Run a pipeline until it is drained."""
    async with worker(plan, broker) as run:

        async def is_drained() -> bool:
            return (await run.snapshot()).is_drained

        await eventually(is_drained)


async def push(broker: Broker, edge: str, *bodies: bytes) -> None:
    outputs = [Output(edge, Header.entering(f"m{i}").encode(), body) for i, body in enumerate(bodies)]
    await Publishing(broker).publish(edge, outputs)
