"""Waits: for an event or a condition, for a limited time, or for the first of several tasks to end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from flowq.world import World

_POLL_SECONDS = 0.02


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most this long. Returns whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def pause_until(event: asyncio.Event, seconds: float, world: World) -> bool:
    """Pause a poll at most this long: an event ends the pause. Returns whether it is set."""
    if not event.is_set():
        await first_to_end(event.wait(), world.pause(seconds))
    return event.is_set()


async def until(is_done: Callable[[], bool], seconds: float, hurry: asyncio.Event) -> None:
    """Return when `is_done()`, after `seconds`, or as soon as `hurry` is set."""
    now = asyncio.get_running_loop().time
    deadline = now() + seconds
    while not is_done() and not hurry.is_set() and (left := deadline - now()) > 0:
        await is_set_within(hurry, min(left, _POLL_SECONDS))


async def first_to_end(*work: Awaitable[Any]) -> None:
    """Wait until one of these has ended, cancel the others, and raise what it raised."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
