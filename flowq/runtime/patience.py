"""Waits for something to come to an end, but not for ever, and not when told to hurry."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

_POLL_SECONDS = 0.02


async def until(is_done: Callable[[], bool], seconds: float, hurry: asyncio.Event) -> None:
    """Return when it is done, after so many seconds, or as soon as `hurry` is set."""
    now = asyncio.get_running_loop().time
    deadline = now() + seconds
    while not is_done() and not hurry.is_set() and (left := deadline - now()) > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left, _POLL_SECONDS)):
                await hurry.wait()
