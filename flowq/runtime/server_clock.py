"""Converts times of the Redis clock to the clock of this process."""

from __future__ import annotations

from math import inf

_DRIFT = 0.001  # seconds per second: twice the drift of a clock that is being adjusted


class ServerClock:
    """Estimates the offset of the two clocks from calls whose replies contain the server's time.

    A reply was written after its request was sent and before it arrived. That bounds the offset, narrowly for a fast
    reply, and so shows how old a slow or repeated reply is. If a clock is set, the estimate starts over.

    >>> clock = ServerClock()
    >>> clock.note(100.0, 100.2, 5000.1)  # a slow one
    >>> clock.note(101.0, 101.002, 5001.001)  # a quick one
    >>> round(clock.local(5010.0), 3)
    110.0
    """

    def __init__(self) -> None:
        self._least, self._most = -inf, inf
        self._noted_at = 0.0

    def note(self, sent_at: float, arrived_at: float, server_seconds: float) -> None:
        """Record a call: sent and answered at these times, with `server_seconds` on the Redis clock in between."""
        drift = (arrived_at - self._noted_at) * _DRIFT
        least, most = server_seconds - arrived_at, server_seconds - sent_at
        self._least, self._most = max(least, self._least - drift), min(most, self._most + drift)
        if self._least > self._most:
            self._least, self._most = least, most
        self._noted_at = arrived_at

    def local(self, server_seconds: float) -> float:
        """The local time of a time on the Redis clock."""
        return server_seconds - (self._least + self._most) / 2
