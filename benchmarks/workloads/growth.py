"""The cost of a hop with much data in Redis, compared with a nearly empty Redis.

The cost is the processor time of worker and Redis together: unlike a rate it does not depend on other programs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis import Redis

from benchmarks.drain import worked_off
from benchmarks.figures import Figure, Goal, Measured, Workload
from benchmarks.item import Link, items
from benchmarks.server import Server
from benchmarks.subjects import flowq

_N = 50_000
_MILLION = 1_000_000


def _cost(task: str, n: int, server: Server, *, hops: int = 1, leave: int = 0) -> float:
    measured = worked_off("flowq", task, n, server, leave=leave)
    return (measured["flowq worker"] + measured["flowq redis"]) / hops


def _fill(task: str, server: Server, n: int, **options: str) -> None:
    asyncio.run(flowq.publish(task, server.url, items(n), **options))


def _waiting(waiting: int) -> Workload:
    def measure(scale: float) -> Measured:
        n, more = int(_N * scale), int(waiting * scale)
        found: dict[str, float] = {}
        for name, leave in (("empty", 0), ("full", more)):
            with Server() as server:
                _fill("drain", server, n + leave)
                found[name] = _cost("drain", n, server, leave=leave)
        return found

    return _workload(f"growth-{waiting // _MILLION}M", f"{waiting:,} messages waiting on the edge", measure)


def _delayed(scale: float) -> Measured:
    n = int(_N * scale)
    found: dict[str, float] = {}
    for name, delayed in (("empty", 0), ("full", int(100_000 * scale))):
        with Server() as server:
            _fill("drain", server, delayed, delay="1h")
            _fill("drain", server, n)
            found[name] = _cost("drain", n, server, leave=delayed)
    return found


def _seen(scale: float) -> Measured:
    """The seen messages wait on the edge as well: a program has no other way to add seen keys."""
    n = int(_N * scale)
    found: dict[str, float] = {}
    for name, seen in (("empty", 0), ("full", int(_MILLION * scale))):
        with Server() as server:
            asyncio.run(_see(server, seen))
            _fill("links", server, n)
            found[name] = _cost("links", n, server)
    return found


async def _see(server: Server, n: int) -> None:
    links = (Link(url=f"https://example.org/seen/{number}") for number in range(n))
    async with flowq.Publisher(flowq.PIPELINES["links"], redis=server.url) as publisher:
        await publisher.push_many("visit", links)


def _seen_bytes(n: int) -> Workload:
    def measure(scale: float) -> Measured:
        seen = int(n * scale)
        with Server() as server, Redis.from_url(server.url) as redis:
            asyncio.run(_see(server, seen))
            used: Any = redis.memory_usage("flowq:{links}:seen:visit", samples=0)
        return {"bytes": used / seen}

    figures = (Figure("memory of Redis a value", "bytes", "B", goal=Goal(at_most=12 if n > _MILLION else 13)),)
    return Workload(f"seen-{n // _MILLION}M", f"{n:,} values that a stage has seen", measure, figures)


def _stages(scale: float) -> Measured:
    found: dict[str, float] = {}
    for name, task, hops in (("empty", "chain10", 10), ("full", "chain50", 50)):
        n = int(2_000 * scale)
        with Server() as server:
            _fill(task, server, n)
            found[name] = _cost(task, n, server, hops=hops)
    return found


def _workload(name: str, title: str, measure: Callable[[float], Measured]) -> Workload:
    goal = Goal(at_most=1.3, times="empty")
    return Workload(name, title, measure, (Figure("cost of a hop", "full", "µs", goal=goal),))


WORKLOADS = (
    _waiting(_MILLION),
    _workload("growth-delayed", "100,000 messages delayed", _delayed),
    _workload("growth-seen", "1,000,000 messages seen before", _seen),
    _seen_bytes(_MILLION),
    _workload("growth-stages", "50 stages in one worker, compared with 10", _stages),
)

HUGE = (_waiting(10 * _MILLION), _seen_bytes(10 * _MILLION))
"""Only on request: needs 3 GB of memory."""
