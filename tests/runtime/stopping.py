"""A runner that a test starts itself, and a stop that must not take longer than it may."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from flowq import Pipeline
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import RunOptions
from tests.runtime.lab import Lab

MARGIN_SECONDS = 2.0


@asynccontextmanager
async def stopping(seconds: float) -> AsyncIterator[None]:
    """The block must end within so many seconds, and the loop must be alive meanwhile."""
    began = time.monotonic()
    async with asyncio.timeout(seconds + 5):
        yield
    assert time.monotonic() - began < seconds


async def started(lab: Lab, pipeline: Pipeline, **options: Any) -> Runner:
    runner = Runner(pipeline.plan, lab.broker(pipeline), RunOptions(**options))
    await runner.start()
    return runner
