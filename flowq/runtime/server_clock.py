"""What time it is for Redis, by the clock of this process."""

from __future__ import annotations

from math import inf

_DRIFT = 0.001  # seconds in a second: twice what a clock that is being adjusted may do


class ServerClock:
    """Learns the difference of the two clocks from calls whose answers tell the time.

    An answer was given after its request was sent and before it arrived: that bounds the difference, for a quick answer
    narrowly. A slow one, or one that was lost and sent again, is thereby known to be old. A clock that was set begins
    anew.

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
        """A call was sent and answered at these times, and for Redis it was `server_seconds` in between."""
        drift = (arrived_at - self._noted_at) * _DRIFT
        least, most = server_seconds - arrived_at, server_seconds - sent_at
        self._least, self._most = max(least, self._least - drift), min(most, self._most + drift)
        if self._least > self._most:
            self._least, self._most = least, most
        self._noted_at = arrived_at

    def local(self, server_seconds: float) -> float:
        """When that is, here."""
        return server_seconds - (self._least + self._most) / 2
