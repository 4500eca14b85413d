"""Measures how long worker processes take to drain a full queue, and at what cost."""

from __future__ import annotations

import asyncio
import time

from benchmarks.item import items
from benchmarks.processes import Team
from benchmarks.server import Server
from benchmarks.subjects import subject
from benchmarks.tally import count_in, read

_POLL_SECONDS = 0.003
_LONGEST_SECONDS = 300.0


def drained(name: str, task: str, n: int, *, workers: int = 1, options: tuple[str, ...] = ()) -> dict[str, float]:
    """Fill a fresh server, then measure from the first handler to the last settlement."""
    with Server(*options) as server:
        asyncio.run(subject(name).publish(task, server.url, items(n)))
        return worked_off(name, task, n, server, workers=workers)


def worked_off(name: str, task: str, n: int, server: Server, *, workers: int = 1, leave: int = 0) -> dict[str, float]:
    """Measure how workers handle the messages that wait in a server; `leave` of them stay unsettled.

    Costs are processor microseconds per message: of all workers together, and of the server.
    """
    with Team(name, task, server, workers=workers) as team:
        before, redis_before = team.cpu_seconds, server.cpu_seconds
        team.go()
        deadline = time.monotonic() + _LONGEST_SECONDS
        while count_in(team.tallies) < n or (not leave and asyncio.run(subject(name).outstanding(task, server.url))):
            if time.monotonic() > deadline or not team.is_alive:
                raise RuntimeError(f"{name} handled {count_in(team.tallies):,} of {n:,} messages of {task}")
            time.sleep(_POLL_SECONDS)
        ended_ns = time.monotonic_ns()
        worker_seconds, redis_seconds = team.cpu_seconds - before, server.cpu_seconds - redis_before
        reading = read(team.tallies)
        return {
            f"{name} rate": reading.count / ((ended_ns - reading.first_ns) / 1e9),
            f"{name} worker": 1e6 * worker_seconds / reading.count,
            f"{name} redis": 1e6 * redis_seconds / reading.count,
            f"{name} rss": team.peak_rss_mib,
        }
