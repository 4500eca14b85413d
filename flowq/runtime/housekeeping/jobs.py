"""How a process repeats its housekeeping jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from flowq.errors import BrokerRefused
from flowq.world import World

log = logging.getLogger("flowq.runtime")

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 10.0


class Job(Protocol):
    """Recurring work beside the messages. `name` appears in logs."""

    name: str

    async def step(self) -> float:
        """Do what is due. Returns the seconds until the next step."""
        ...


async def run_job(world: World, job: Job) -> None:
    """Repeat the steps of a job until cancelled."""

    async def repeat() -> None:
        while True:
            await world.pause(await job.step())

    await restart_on_error(world, repeat, job.name)


async def restart_on_error(world: World, work: Callable[[], Awaitable[None]], name: str) -> None:
    """Restart on error with backoff and log it, until the work returns. Raises BrokerRefused.

    The backoff starts over once the work has run for longer than the longest pause. A process with a dead housekeeping
    job would look healthy and leave its part of the work undone.
    """
    pause_seconds, is_first = _FIRST_PAUSE_SECONDS, True
    while True:
        started_at = world.monotonic()
        try:
            return await work()
        except BrokerRefused:
            raise
        except Exception as error:
            if world.monotonic() - started_at > _LONGEST_PAUSE_SECONDS:
                pause_seconds, is_first = _FIRST_PAUSE_SECONDS, True
            log.warning("%s failed, restarting in %g s: %r", name, pause_seconds, error, exc_info=is_first)
        await asyncio.sleep(pause_seconds)
        pause_seconds, is_first = min(_LONGEST_PAUSE_SECONDS, pause_seconds * 2), False
