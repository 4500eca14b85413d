"""One edge at a glance: what it holds, arrivals, ages, and how full it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowq.broker.inspection.edge_stats import EdgeStats
from flowq.broker.inspection.throughput import per_second
from flowq.broker.inspection.throughput_records import HalfMinute
from flowq.broker.records import Snapshot
from flowq.graph.compilation.plan import EdgePlan


@dataclass(frozen=True, slots=True)
class EdgeOverview:
    """One edge. `in_total` is what was appended in this run, without `duplicates`; `rate` is messages appended per
    second in the last half minute, None if that is unknown.

    `waiting_since_ms` is when the oldest waiting message was appended, `oldest_seconds` its age; `last_due_ms` is when
    the last delayed one is due. `maxsize` messages and `maxsize_bytes` are the limits of the edge, 0 for none, and
    `fill` is the share of the nearer one that is taken: 1 or more if the edge is full, None without limits. `held`
    counts the running messages of each worker.
    """

    waiting: int
    delayed: int
    running: int
    outstanding: int
    in_total: int = 0
    duplicates: int = 0
    rate: float | None = None
    waiting_since_ms: int | None = None
    oldest_seconds: float | None = None
    last_due_ms: int | None = None
    memory_bytes: int = 0
    maxsize: int = 0
    maxsize_bytes: int = 0
    held: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def fill(self) -> float | None:
        # An empty edge needs some memory as well, which must not count.
        limits = (self.outstanding, self.maxsize), (self.memory_bytes if self.outstanding else 0, self.maxsize_bytes)
        return max((taken / limit for taken, limit in limits if limit), default=None)

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON, except the messages of each worker."""
        fill = self.fill
        return {
            "waiting": self.waiting,
            "delayed": self.delayed,
            "running": self.running,
            "outstanding": self.outstanding,
            "in_total": self.in_total,
            "duplicates": self.duplicates,
            "rate": None if self.rate is None else round(self.rate, 1),
            "waiting_since_ms": self.waiting_since_ms,
            "oldest_seconds": None if self.oldest_seconds is None else round(self.oldest_seconds, 3),
            "memory_bytes": self.memory_bytes,
            "maxsize": self.maxsize,
            "maxsize_bytes": self.maxsize_bytes,
            "fill": None if fill is None else round(fill, 3),
        }


def edge_overview(edge: EdgePlan, snapshot: Snapshot, stats: EdgeStats, recorded: HalfMinute) -> EdgeOverview:
    """One edge at the moment of a snapshot."""
    state, since_ms = snapshot.edges[edge.name], stats.waiting_since_ms
    counter = f"in:{edge.name}"
    in_total = snapshot.counters.get(counter, 0)
    return EdgeOverview(
        waiting=state.waiting,
        delayed=state.delayed,
        running=state.running,
        outstanding=state.outstanding,
        in_total=in_total,
        duplicates=snapshot.counters.get(f"duplicates:{edge.name}", 0),
        rate=per_second(recorded.grown(counter, in_total)),
        waiting_since_ms=since_ms,
        oldest_seconds=None if since_ms is None else max(0, snapshot.now_ms - since_ms) / 1000,
        last_due_ms=stats.last_due_ms,
        memory_bytes=stats.memory_bytes,
        maxsize=edge.maxsize,
        maxsize_bytes=edge.maxsize_bytes,
        held=stats.held,
    )
