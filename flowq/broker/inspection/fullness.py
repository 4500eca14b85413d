"""How full edges are, and which of them hold back the stages that feed them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set

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


def full_edges(fills: Mapping[str, float], before: Set[str]) -> frozenset[str]:
    """The edges that are at their limit, and those that were and are not down to four fifths of it yet.

    >>> sorted(full_edges({"a>b": 1.0, "b>c": 0.9, "c>d": 0.9, ">a": 0.0}, {"c>d", ">a"}))
    ['a>b', 'c>d']
    """
    return frozenset(edge for edge, fill in fills.items() if fill >= (_FREE_BELOW if edge in before else 1))
