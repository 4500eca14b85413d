"""Waits for conditions instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.005


async def eventually(condition: Callable[[], object | Awaitable[object]], *, seconds: float = 120.0) -> None:
    """Return as soon as the condition holds; fail when it does not within `seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        holds = condition()
        if inspect.isawaitable(holds):
            holds = await holds
        if holds:
            return
        assert loop.time() < deadline, f"did not come true within {seconds:g} s"
        await asyncio.sleep(POLL_SECONDS)
