"""Measures how fast a stage finishes its messages, and so how many it may read ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowq.runtime.stage.core_wait import core_wait_seconds

_SHORTEST_SECONDS = 0.005
_LEAST_SHARE = 0.25
_WEIGHT = 0.5
LOCAL_WORK_SECONDS = 0.1


@dataclass(slots=True)
class ReadAhead:
    """How fast a stage finishes its messages in this process: a moving average that starts at the first measurement.

    Only time with messages in flight is counted: an idle stage is not a slow one. Time in which no core ran this thread
    is not, as far as `core_wait` knows it: busy neighbours are no reason for small batches, which make each message
    cost more. But a quarter of the time always counts, so that a process that hardly runs keeps no more than four times
    a tenth of a second of work from other workers.
    """

    core_wait: Callable[[], float] = core_wait_seconds  # in seconds, up to now
    per_second: float = 0.0
    _n: int = 0
    _busy_seconds: float = 0.0
    _since: float = 0.0
    _waited_seconds: float = 0.0
    _waited_at: float = float("-inf")

    def begin(self, now: float) -> None:
        """Start measuring: nothing was in flight until `now`, in seconds."""
        self._since = now
        if now - self._waited_at >= _SHORTEST_SECONDS:  # else the last reading is as good, and each costs microseconds
            self._waited(now)

    def count(self, n: int, now: float) -> None:
        """Record that `n` more have finished at `now`."""
        self._n += n
        self._busy_seconds += now - self._since
        self._since = now
        if self._busy_seconds < _SHORTEST_SECONDS:
            return
        busy_seconds = max(self._busy_seconds - self._waited(now), self._busy_seconds * _LEAST_SHARE)
        measured = self._n / busy_seconds
        self.per_second = measured if not self.per_second else self.per_second + (measured - self.per_second) * _WEIGHT
        self._n, self._busy_seconds = 0, 0.0

    def _waited(self, now: float) -> float:
        """How long this thread has waited for a core since the last reading, in seconds."""
        before, self._waited_seconds, self._waited_at = self._waited_seconds, self.core_wait(), now
        return max(0.0, self._waited_seconds - before)

    def room(self, wanted: int, most_ahead: int, *, in_flight: int) -> int:
        """How many messages to read: enough for the slots (`wanted`) and for a tenth of a second of work.

        Zero while a read would bring too few to be worth its round trip.
        """
        window = wanted + min(most_ahead, int(self.per_second * LOCAL_WORK_SECONDS))
        worthwhile = min(window // 2, int(self.per_second * LOCAL_WORK_SECONDS / 10))
        return window - in_flight if window - in_flight >= max(1, worthwhile) else 0
