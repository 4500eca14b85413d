"""Measures how fast a stage finishes its messages, and how much work it may therefore keep at hand."""

from __future__ import annotations

from dataclasses import dataclass

_SHORTEST_SECONDS = 0.005
_WEIGHT = 0.5
LOCAL_WORK_SECONDS = 0.1


@dataclass(slots=True)
class Gauge:
    """How fast a stage finishes its messages in this process: a moving average, and the first measure as it is.

    Only time with something at hand is counted: an idle stage is not a slow one.
    """

    per_second: float = 0.0
    _n: int = 0
    _busy_seconds: float = 0.0
    _since: float = 0.0

    def begin(self, now: float) -> None:
        """There was nothing at hand until now, a time in seconds."""
        self._since = now

    def count(self, n: int, now: float) -> None:
        """So many more have finished by now."""
        self._n += n
        self._busy_seconds += now - self._since
        self._since = now
        if self._busy_seconds < _SHORTEST_SECONDS:
            return
        measured = self._n / self._busy_seconds
        self.per_second = measured if not self.per_second else self.per_second + (measured - self.per_second) * _WEIGHT
        self._n, self._busy_seconds = 0, 0.0

    def room(self, wanted: int, most_ahead: int, *, held: int) -> int:
        """How many messages to ask for: what the slots take (`wanted`) and a tenth of a second of work more.

        None while a read would bring too few to be worth its round trip.
        """
        window = wanted + min(most_ahead, int(self.per_second * LOCAL_WORK_SECONDS))
        worthwhile = min(window // 2, int(self.per_second * LOCAL_WORK_SECONDS / 10))
        return window - held if window - held >= max(1, worthwhile) else 0
