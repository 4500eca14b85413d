"""How fast a program pushes messages: models that have to be encoded, and bytes that are ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.figures import Figure, Goal, Measured, Workload
from benchmarks.item import items
from benchmarks.server import Server
from benchmarks.subjects import subject

_SUBJECTS = ("flowq", "loop", "limit")


def _published(name: str, task: str, messages: Sequence[Any]) -> dict[str, float]:
    with Server() as server:
        began, cpu_before = time.perf_counter(), time.process_time()
        asyncio.run(subject(name).publish(task, server.url, messages))
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_before
        return {
            f"{name} rate": len(messages) / seconds,
            f"{name} cost": 1e6 * cpu_seconds / len(messages),
            f"{name} redis": 1e6 * server.cpu_seconds / len(messages),
        }


def _models(scale: float) -> Measured:
    return _of_each("drain", list(items(int(100_000 * scale))))


def _bytes(scale: float) -> Measured:
    return _of_each("bytes", [item.model_dump_json().encode() for item in items(int(200_000 * scale))])


def _of_each(task: str, messages: Sequence[Any]) -> Measured:
    found: dict[str, float] = {}
    for name in _SUBJECTS:
        found |= _published(name, task, messages)
    return found


def _figures(goal: Goal) -> tuple[Figure, ...]:
    return (
        Figure("messages", "flowq rate", "/s", ("loop rate", "limit rate"), goal),
        Figure("cost in the publisher", "flowq cost", "µs", ("loop cost", "limit cost")),
        Figure("cost in Redis", "flowq redis", "µs", ("loop redis", "limit redis")),
    )


WORKLOADS = (
    Workload("W3", "push_many of models", _models, _figures(Goal(at_least=250_000))),
    Workload("W3-bytes", "push_many of bytes that are ready", _bytes, _figures(Goal(at_least=300_000))),
)
