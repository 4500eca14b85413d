"""When a stage asks Redis what it was given, to find what never arrived."""

from __future__ import annotations

import time

from flowq.broker.redis_streams import Broker

_EVERY_SECONDS, _SOON_SECONDS = 30.0, 0.5


class Reconciliation:
    """Due now and then, and after anything that may have lost a reply."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.begin()

    @property
    def is_due(self) -> bool:
        return self._broker.losses != self._losses or time.monotonic() >= self._due_at

    def begin(self) -> None:
        """It is being done now, and holds for what was lost before."""
        self._losses, self._due_at = self._broker.losses, time.monotonic() + _EVERY_SECONDS

    def hasten(self, seconds: float = _SOON_SECONDS) -> None:
        """Do it that soon."""
        self._due_at = min(self._due_at, time.monotonic() + seconds)
