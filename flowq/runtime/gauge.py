"""Measures how fast a stage finishes its messages, and how much work it may therefore keep at hand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Gauge:
    """How fast a stage finishes its messages in this process, as a moving average."""

    per_second: float = 0.0
    _n: int = 0
    _since: float = 0.0

    def count(self, n: int, now: float) -> None:
        if not self._n:
            self._since = now if not self._since or now - self._since > 1.0 else self._since
        self._n += n
        passed = now - self._since
        if passed >= 0.02:
            self.per_second += (self._n / passed - self.per_second) * 0.5
            self._n, self._since = 0, now
