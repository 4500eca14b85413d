"""Sends messages one at a time at a moderate rate, and measures how long each takes to its handler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.item import Item, item
from benchmarks.processes import Team
from benchmarks.tally import read

_WARM_UP = 20


async def latencies_ms(team: Team, send: Callable[[Item], Awaitable[Any]], *, n: int, per_second: float) -> list[float]:
    """From just before the push of each message to the first line of its handler."""
    team.go()
    for number in range(_WARM_UP):
        await send(item(number, time.monotonic_ns()))
    await asyncio.to_thread(team.wait_for, _WARM_UP)
    began = time.monotonic()
    for number in range(n):
        await asyncio.sleep(began + number / per_second - time.monotonic())
        await send(item(_WARM_UP + number, time.monotonic_ns()))
    await asyncio.to_thread(team.wait_for, _WARM_UP + n)
    return [late_ns / 1e6 for late_ns in read(team.tallies).late_ns[_WARM_UP:]]
