"""Messages per second: one worker and several, short handlers and waiting ones, one stage and three."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.drain import drained
from benchmarks.figures import Figure, Goal, Measured, Workload
from benchmarks.item import LINKS_PER_PAGE
from benchmarks.server import AOF
from benchmarks.subjects.flowq import NAP_SECONDS, NAPS_AT_ONCE

_BASELINES = ("loop rate", "limit rate")
TEAMS = (1, 2, 4, 8)
_NAPS_PER_SECOND = NAPS_AT_ONCE / NAP_SECONDS


def _with_baselines(task: str, n: Mapping[str, int], *, workers: int = 1) -> Callable[[float], Measured]:
    """The loop gets fewer messages: its rate is the same, and the run would take too long."""

    def measure(scale: float) -> Measured:
        found: dict[str, float] = {}
        for name, messages in n.items():
            found |= drained(name, task, max(1000, int(messages * scale)), workers=workers)
        return found

    return measure


def _figures(goal: Goal, *, worker: float | None = None, redis: float | None = None) -> tuple[Figure, ...]:
    """`worker`, `redis`: how many times as much as with the limit program they are to cost at most."""

    def cost(title: str, where: str, times: float | None) -> Figure:
        at_most = None if times is None else Goal(at_most=times, times=f"limit {where}")
        return Figure(title, f"flowq {where}", "µs", (f"loop {where}", f"limit {where}"), at_most)

    return (
        Figure("messages", "flowq rate", "/s", _BASELINES, goal),
        cost("cost in the worker", "worker", worker),
        cost("cost in Redis", "redis", redis),
    )


def _two_workers(scale: float) -> Measured:
    """With so many messages that it hardly counts when one worker begins or ends before the other."""
    one = drained("flowq", "drain", int(300_000 * scale))
    two = _with_baselines("drain", {"flowq": 300_000, "loop": 40_000, "limit": 300_000}, workers=2)(scale)
    return {**two, "one worker": one["flowq rate"]}


def _naps(scale: float) -> Measured:
    measured = _with_baselines("nap", {"flowq": 20_000, "loop": 10_000, "limit": 20_000})(scale)
    return {**measured, "ideal": 100 * measured["flowq rate"] / _NAPS_PER_SECOND}


def _fan_out(scale: float) -> Measured:
    measured = _with_baselines("fan_out", {"flowq": 2_000, "loop": 1_000, "limit": 2_000})(scale)
    per_link = {key: value / LINKS_PER_PAGE for key, value in measured.items() if not key.endswith("rate")}
    return {**per_link, **{key: value * LINKS_PER_PAGE for key, value in measured.items() if key.endswith("rate")}}


def _workers(scale: float) -> Measured:
    n, found = int(100_000 * scale), dict[str, float]()
    for workers in TEAMS:
        measured = drained("flowq", "drain", n, workers=workers)
        found[f"{workers}"] = measured["flowq rate"]
        found[f"{workers} redis"] = measured["flowq rate"] * measured["flowq redis"] / 1e4
    return found


def _persistent(scale: float) -> Measured:
    n = int(100_000 * scale)
    return {
        "none": drained("flowq", "drain", n)["flowq rate"],
        "everysec": drained("flowq", "drain", n, options=AOF)["flowq rate"],
        "none, 3 stages": drained("flowq", "chain", n // 3)["flowq rate"],
        "everysec, 3 stages": drained("flowq", "chain", n // 3, options=AOF)["flowq rate"],
    }


WORKLOADS = (
    Workload(
        "W1",
        "one stage that does nothing, one worker",
        _with_baselines("drain", {"flowq": 100_000, "loop": 20_000, "limit": 100_000}),
        _figures(Goal(at_least=7, times="loop rate"), worker=1.15, redis=1.25),
    ),
    Workload(
        "W1x2",
        "the same, two workers",
        _two_workers,
        (Figure("messages", "flowq rate", "/s", _BASELINES, Goal(at_least=1.7, times="one worker")),),
    ),
    Workload(
        "W2",
        "a handler that waits 10 ms, 100 at once",
        _naps,
        (
            Figure("messages", "flowq rate", "/s", _BASELINES),
            Figure("of the ideal 10,000 a second", "ideal", "%", goal=Goal(at_least=95)),
        ),
    ),
    Workload(
        "W4",
        "three stages in one worker",
        _with_baselines("chain", {"flowq": 30_000, "loop": 5_000, "limit": 30_000}),
        _figures(Goal(at_least=8, times="loop rate"), worker=1.5, redis=1.25),
    ),
    Workload(
        "fan-out",
        "100 links from each page, 90 % of them seen before",
        _fan_out,
        _figures(Goal(at_least=150_000)),
    ),
    Workload(
        "workers",
        "W1 with more workers than cores",
        _workers,
        (
            *(Figure(f"messages, {n} workers", f"{n}", "/s") for n in TEAMS),
            *(Figure(f"Redis busy, {n} workers", f"{n} redis", "%") for n in TEAMS),
        ),
    ),
    Workload(
        "AOF",
        "Redis writes a log, synced every second",
        _persistent,
        (
            Figure("one stage", "everysec", "/s", goal=Goal(at_least=0.7, times="none")),
            Figure("three stages", "everysec, 3 stages", "/s", goal=Goal(at_least=0.7, times="none, 3 stages")),
        ),
    ),
)
