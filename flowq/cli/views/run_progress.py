"""How far a run is, from one look at it to the next. Time is that of the snapshots: the server's."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowq.broker.records import Snapshot
from flowq.broker.runs import StageBalance, balance_of
from flowq.cli.views.run_text import settled
from flowq.graph.compilation.plan import Plan

if TYPE_CHECKING:
    from flowq.broker.inspection.overview import Overview

_RATE_MS, _SHORTEST_RATE_MS = 3000, 250


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at a run: `rates` are messages settled per second by stage, over the last few seconds.

    `overview` is of a second ago at most, None if it is not known.
    """

    snapshot: Snapshot
    balances: Mapping[str, StageBalance]
    rates: Mapping[str, float]
    passed_seconds: float
    overview: Overview | None


class ProgressMeter:
    """Turns snapshots into progress."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._first_ms = 0
        self._seen: deque[tuple[int, Mapping[str, int]]] = deque()

    def read(self, snapshot: Snapshot, overview: Overview | None = None) -> Progress:
        """The progress up to this snapshot, which must be newer than the last."""
        now_ms = snapshot.now_ms
        balances = balance_of(self._plan, snapshot)
        done = {name: settled(balance) for name, balance in balances.items()}
        if self._seen and now_ms < self._seen[-1][0]:  # another server has taken over, with another clock
            self._first_ms -= self._seen[-1][0] - now_ms
            self._seen.clear()
        self._first_ms = self._first_ms or now_ms
        self._seen.append((now_ms, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now_ms - _RATE_MS:
            self._seen.popleft()
        then_ms, then = self._seen[0]
        passed_seconds = max(_SHORTEST_RATE_MS, now_ms - then_ms) / 1000
        # A replay subtracts dead letters from what was settled: that is no negative speed.
        rates = {name: max(0, n - then[name]) / passed_seconds for name, n in done.items()}
        return Progress(snapshot, balances, rates, (now_ms - self._first_ms) / 1000, overview)


class Pacer:
    """Limits how often something happens."""

    def __init__(self, every_ms: int) -> None:
        self._every_ms = every_ms
        self._last_ms = 0

    def is_due(self, now_ms: int, *, after_ms: int | None = None) -> bool:
        """Whether the interval, or `after_ms`, has passed since it was last due."""
        # abs: after a failover the clock may be behind.
        due = abs(now_ms - self._last_ms) >= (self._every_ms if after_ms is None else after_ms)
        if due:
            self._last_ms = now_ms
        return due
