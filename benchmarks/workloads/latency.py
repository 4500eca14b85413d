"""The time from just before the push of a message to the first line of its handler, at a moderate rate."""

from __future__ import annotations

import asyncio
import time
from statistics import quantiles

from benchmarks.figures import Figure, Goal, Measured, Workload
from benchmarks.item import item
from benchmarks.processes import Team
from benchmarks.server import Server
from benchmarks.subjects import subject
from benchmarks.tally import count_in, read

_PER_SECOND = 50
_SECONDS = 10
_SUBJECTS = ("flowq", "loop", "limit")
_WARM_UP = 20


def _measure(scale: float) -> Measured:
    found: dict[str, float] = {}
    for name in _SUBJECTS:
        found |= asyncio.run(_paced(name, int(_SECONDS * scale * _PER_SECOND)))
    return found


async def _paced(name: str, n: int) -> dict[str, float]:
    with Server() as server, Team(name, "latency", server) as team:
        async with subject(name).sender("latency", server.url) as send:
            team.go()
            for number in range(_WARM_UP):
                await send(item(number, time.monotonic_ns()))
            await _until(team, _WARM_UP)
            began = time.monotonic()
            for number in range(n):
                await asyncio.sleep(began + number / _PER_SECOND - time.monotonic())
                await send(item(number, time.monotonic_ns()))
            await _until(team, _WARM_UP + n)
        late_ms = [late_ns / 1e6 for late_ns in read(team.tallies).late_ns[_WARM_UP:]]
        cuts = quantiles(late_ms, n=100)
        return {f"{name} p50": cuts[49], f"{name} p99": cuts[98]}


async def _until(team: Team, n: int) -> None:
    while count_in(team.tallies) < n and team.is_alive:  # noqa: ASYNC110  (another process counts)
        await asyncio.sleep(0.01)


def _within(title: str, key: str) -> Figure:
    goal = Goal(at_most=1.15, times=f"limit {key}")
    return Figure(title, f"flowq {key}", "ms", (f"loop {key}", f"limit {key}"), goal)


WORKLOADS = (
    Workload(
        "W5",
        f"{_PER_SECOND} messages a second, push to handler",
        _measure,
        (
            _within("half of them within", "p50"),
            _within("99 % of them within", "p99"),
        ),
    ),
)
