"""Measures how fast a stage finishes its messages, and so how many it may read ahead."""

from __future__ import annotations

from dataclasses import dataclass

_SHORTEST_SECONDS = 0.005
_WEIGHT = 0.5
LOCAL_WORK_SECONDS = 0.1


@dataclass(slots=True)
class ReadAhead:
    """How fast a stage finishes its messages in this process: a moving average that starts at the first measurement.

    Only time with messages in flight is counted: an idle stage is not a slow one.
    """

    per_second: float = 0.0
    _n: int = 0
    _busy_seconds: float = 0.0
    _since: float = 0.0

    def begin(self, now: float) -> None:
        """Start measuring: nothing was in flight until `now`, in seconds."""
        self._since = now

    def count(self, n: int, now: float) -> None:
        """Record that `n` more have finished at `now`."""
        self._n += n
        self._busy_seconds += now - self._since
        self._since = now
        if self._busy_seconds < _SHORTEST_SECONDS:
            return
        measured = self._n / self._busy_seconds
        self.per_second = measured if not self.per_second else self.per_second + (measured - self.per_second) * _WEIGHT
        self._n, self._busy_seconds = 0, 0.0

    def room(self, wanted: int, most_ahead: int, *, in_flight: int) -> int:
        """How many messages to read: enough for the slots (`wanted`) and for a tenth of a second of work.

        Zero while a read would bring too few to be worth its round trip.
        """
        window = wanted + min(most_ahead, int(self.per_second * LOCAL_WORK_SECONDS))
        worthwhile = min(window // 2, int(self.per_second * LOCAL_WORK_SECONDS / 10))
        return window - in_flight if window - in_flight >= max(1, worthwhile) else 0
