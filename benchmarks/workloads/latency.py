"""The time from just before the push of a message to the first line of its handler, at a moderate rate."""

from __future__ import annotations

import asyncio
from statistics import quantiles

from benchmarks.figures import Figure, Goal, Measured, Workload
from benchmarks.pacing import latencies_ms
from benchmarks.processes import Team
from benchmarks.server import Server
from benchmarks.subjects import subject

_PER_SECOND = 50
_SECONDS = 10
_SUBJECTS = ("flowq", "loop", "limit")


def _measure(scale: float) -> Measured:
    found: dict[str, float] = {}
    for name in _SUBJECTS:
        found |= asyncio.run(_paced(name, int(_SECONDS * scale * _PER_SECOND)))
    return found


async def _paced(name: str, n: int) -> dict[str, float]:
    with Server() as server, Team(name, "latency", server) as team:
        async with subject(name).sender("latency", server.url) as send:
            cuts = quantiles(await latencies_ms(team, send, n=n, per_second=_PER_SECOND), n=100)
        return {f"{name} p50": cuts[49], f"{name} p99": cuts[98]}


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
