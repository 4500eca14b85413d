"""Measures how fast a stage finishes its messages, and so how many it may read ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowq.runtime.stage.core_wait import core_wait_seconds

_SHORTEST_SECONDS = 0.005
_BETWEEN_READINGS_SECONDS = 0.001  # of the core wait: each costs a few microseconds
_LEAST_SHARE = 0.1
_WEIGHT = 0.5
LOCAL_WORK_SECONDS = 0.1


@dataclass(slots=True)
class ReadAhead:
    """How fast a stage finishes its messages in this process: a moving average that starts at the first measurement.

    Only time in which slots have messages is counted: an idle stage is not a slow one, nor is one that waits for a slow
    Redis. Time in which no core ran this thread is not, as far as `core_wait` knows it: busy neighbours are no reason
    for small batches, which make each message cost more. But a tenth of the time always counts, so that a process that
    hardly runs keeps no more than a second of work from other workers.
    """

    core_wait: Callable[[], float] = core_wait_seconds  # in seconds, up to now
    per_second: float = 0.0
    _n: int = 0
    _busy_seconds: float = 0.0
    _lost_seconds: float = 0.0
    _since: float = 0.0
    _is_paused: bool = False
    _measured_at: float = float("-inf")
    _waited_seconds: float = 0.0
    _waited_at: float = float("-inf")

    def begin(self, now: float) -> None:
        """Start measuring: nothing was in flight until `now`, in seconds."""
        self._since, self._is_paused = now, False
        self._waited(now)

    def pause(self, now: float) -> None:
        """All slots wait for messages from `now` on: what is in flight has been handled."""
        self._pass(now)
        self._is_paused = True

    def resume(self, now: float) -> None:
        """A slot goes on at `now`."""
        if self._is_paused:
            self.begin(now)

    def count(self, n: int, now: float) -> None:
        """Record that `n` more have finished at `now`."""
        self._n += n
        self._pass(now)
        used_seconds = max(self._busy_seconds - self._lost_seconds, self._busy_seconds * _LEAST_SHARE)
        if used_seconds < _SHORTEST_SECONDS and now - self._measured_at < LOCAL_WORK_SECONDS:
            return
        # A few fast messages say little about the next thousand: at most 20 times as many are read.
        measured, self._measured_at = self._n / max(used_seconds, _SHORTEST_SECONDS), now
        self.per_second = measured if not self.per_second else self.per_second + (measured - self.per_second) * _WEIGHT
        self._n, self._busy_seconds, self._lost_seconds = 0, 0.0, 0.0

    def _pass(self, now: float) -> None:
        if not self._is_paused:
            self._busy_seconds += now - self._since
            self._lost_seconds += self._waited(now)
            self._since = now

    def _waited(self, now: float) -> float:
        """How long this thread has waited for a core since the last reading, in seconds."""
        if now - self._waited_at < _BETWEEN_READINGS_SECONDS:
            return 0.0
        before, self._waited_seconds, self._waited_at = self._waited_seconds, self.core_wait(), now
        return max(0.0, self._waited_seconds - before)

    def room(self, wanted: int, most_ahead: int, *, in_flight: int) -> int:
        """How many messages to read: enough for the slots (`wanted`) and for a tenth of a second of work.

        Zero while a read would bring too few to be worth its round trip.
        """
        window = wanted + min(most_ahead, int(self.per_second * LOCAL_WORK_SECONDS))
        worthwhile = min(window // 2, int(self.per_second * LOCAL_WORK_SECONDS / 10))
        return window - in_flight if window - in_flight >= max(1, worthwhile) else 0
