"""What a message costs while other programs keep all cores busy, compared with the same on a machine without them."""

from __future__ import annotations

from benchmarks.drain import drained
from benchmarks.figures import Figure, Goal, Measured, Workload
from benchmarks.processes import busy_loops

_N_NEIGHBOURS = 2
_TASKS = {"drain": 100_000, "chain": 30_000}


def _measure(scale: float) -> Measured:
    found: dict[str, float] = {}
    for task, messages in _TASKS.items():
        n = int(messages * scale)
        alone = drained("flowq", task, n)
        with busy_loops(_N_NEIGHBOURS):
            crowded = drained("flowq", task, n)
        for part in ("worker", "redis"):
            found |= {f"{task} {part} alone": alone[f"flowq {part}"], f"{task} {part}": crowded[f"flowq {part}"]}
    return found


def _figure(title: str, key: str) -> Figure:
    return Figure(title, key, "µs", goal=Goal(at_most=1.1, times=f"{key} alone"))


WORKLOADS = (
    Workload(
        "neighbours",
        f"W1 and W4 beside {_N_NEIGHBOURS} busy loops of other programs",
        _measure,
        (
            _figure("one stage, in the worker", "drain worker"),
            _figure("one stage, in Redis", "drain redis"),
            _figure("three stages, in the worker", "chain worker"),
            _figure("three stages, in Redis", "chain redis"),
        ),
    ),
)
