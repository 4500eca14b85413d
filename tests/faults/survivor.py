"""A pipeline running in this process that must outlive every fault of its server without a restart."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import flowq
from flowq import Pipeline, stage
from tests.eventually import eventually
from tests.faults.servers import DurableServer
from tests.runtime.lab import Item, Lab

MOST_LINES_PER_SECOND = 10
LEASE_SECONDS = 1.0


class Survivor:
    """`work >> store` on a server of its own. Handlers of `work` wait while `gate` is closed."""

    def __init__(self, server: DurableServer, namespace: str, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self.server = server
        self.lease_seconds = lease_seconds
        self.lab = Lab.at(server.url, namespace)
        self.namespace = namespace
        self.runs: Counter[int] = Counter()
        self.stored: Counter[int] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()

        @stage(concurrency=4)
        async def work(item: Item) -> Item:
            self.runs[item.n] += 1
            await self.gate.wait()
            return item

        @stage(concurrency=4)
        async def store(item: Item) -> None:
            self.stored[item.n] += 1

        self._work = work
        self.pipeline = Pipeline("life", work >> store)

    def key(self, rest: str) -> str:
        return f"{self.namespace}:{{life}}:{rest}"

    async def push(self, numbers: Iterable[int]) -> None:
        await self.lab.push(self.pipeline, self._work, *[Item(n=n) for n in numbers])

    async def stores(self, numbers: Iterable[int], *, seconds: float = 60.0) -> None:
        """Wait until every one of these has been stored."""
        wanted = set(numbers)
        await eventually(lambda: wanted <= self.stored.keys(), seconds=seconds)

    @asynccontextmanager
    async def working(self, workers: int = 1, *, registered: int = 0) -> AsyncIterator[None]:
        """Run workers without restarts: one that ends within the block fails it. `registered`, with others."""
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(self.run()) for _ in range(workers)]
            await eventually(lambda: self.registered() == (registered or workers))
            yield
            for run in runs:
                run.cancel()

    async def run(self) -> None:
        """Work until cancelled."""
        await flowq.run(
            self.pipeline,
            redis=self.server.url,
            namespace=self.namespace,
            drain=False,
            lease=self.lease_seconds,
            grace=1.0,
        )

    def registered(self) -> int:
        with self.server.client() as client:
            n: int = client.hlen(self.key("workers"))
            return n

    def entries(self, edge: str) -> list[Any]:
        """The messages on an edge, read directly."""
        with self.server.client() as client:
            entries: list[Any] = client.xrange(self.key(f"edge:{edge}"))
            return entries


@asynccontextmanager
async def outage(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Something bad goes on in the block, and must not flood the log while it does."""
    caplog.set_level(logging.WARNING)
    caplog.clear()
    began = time.monotonic()
    yield
    lines, seconds = [record.getMessage() for record in caplog.records], time.monotonic() - began
    assert len(lines) < MOST_LINES_PER_SECOND * max(1.0, seconds), "\n".join(lines)


async def lasts(seconds: float, *, still: Callable[[], bool] | None = None) -> None:
    """Let a fault go on for a while; `still` must hold all the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert still is None or still()
        await asyncio.sleep(0.02)
