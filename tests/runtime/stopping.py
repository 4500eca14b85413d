"""A runner that a test starts itself, and a stop that must not wait for handlers that never end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from flowq import Pipeline
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import RunOptions
from tests.runtime.lab import Lab

FOREVER_SECONDS = 600.0  # so long would take what a stop must not wait for


@asynccontextmanager
async def stopping() -> AsyncIterator[None]:
    """The block must end long before FOREVER_SECONDS have passed, and the loop must be alive meanwhile."""
    async with asyncio.timeout(FOREVER_SECONDS / 10):
        yield


async def started(lab: Lab, pipeline: Pipeline, **options: Any) -> Runner:
    runner = Runner(pipeline.plan, lab.broker(pipeline), RunOptions(**options))
    await runner.start()
    return runner
