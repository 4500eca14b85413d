"""Messages with a host, which stages pace by, and what is known of how many ran at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

from pydantic import BaseModel

from flowq import Pipeline
from tests.eventually import eventually
from tests.runtime.lab import Lab

FAST = 100_000


class Call(BaseModel):
    """One request to a host."""

    host: str
    n: int = 0


def calls(**numbers: int) -> list[Call]:
    return [Call(host=host, n=n) for host, number in numbers.items() for n in range(number)]


class Load:
    """How many calls run to each host, and at most ran at once."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.total = self.most_together = 0

    async def __call__(self, host: str, seconds: float) -> None:
        self.now[host] += 1
        self.total += 1
        self.most[host] = max(self.most[host], self.now[host])
        self.most_together = max(self.most_together, self.now.total())
        await asyncio.sleep(seconds)
        self.now[host] -= 1


async def drained(lab: Lab, pipeline: Pipeline, *, workers: int = 1) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(workers):
            await stack.enter_async_context(lab.running(pipeline))
        await eventually(lambda: is_drained(lab, pipeline))


async def is_drained(lab: Lab, pipeline: Pipeline) -> bool:
    return all(balance.outstanding == 0 for balance in (await lab.balance(pipeline)).values())
