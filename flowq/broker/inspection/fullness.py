"""How full edges are, and which of them hold back the stages that feed them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set

from flowq.graph.compilation.plan import EdgePlan

_FREE_BELOW = 0.8  # where the workers resume


def capacity_of(edge: EdgePlan, outstanding: int, memory_bytes: int) -> float:
    """How many messages of the present size an edge has room for in all.

    Infinite without a limit, and for feedback, which stops nothing.

    >>> edge = EdgePlan("a>b", "a", "b", maxsize=1000, maxsize_bytes=1_000_000)
    >>> capacity_of(edge, 100, 10_000), capacity_of(edge, 100, 500_000)
    (1000.0, 200.0)
    """
    if edge.feedback:
        return math.inf
    limits = [float(edge.maxsize)] if edge.maxsize else []
    if edge.maxsize_bytes and outstanding and memory_bytes:
        limits.append(outstanding * edge.maxsize_bytes / memory_bytes)
    return min(limits, default=math.inf)


def full_edges(
    capacities: Mapping[str, float], levels: Iterable[Mapping[str, int]], before: Set[str] = frozenset()
) -> frozenset[str]:
    """The edges that have reached their capacity, and have not been down to four fifths of it since.

    levels: how many messages the edges held, the latest last. before: those that were full before that.

    >>> sorted(full_edges({"a>b": 10, "b>c": 10}, [{"a>b": 10, "b>c": 10}, {"a>b": 8, "b>c": 7}, {"a>b": 9, "b>c": 9}]))
    ['a>b']
    """
    full = set(before)
    for level in levels:
        for edge, n in level.items():
            capacity = capacities.get(edge, math.inf)
            if n >= capacity:
                full.add(edge)
            elif n < _FREE_BELOW * capacity:
                full.discard(edge)
    return frozenset(full & capacities.keys())
