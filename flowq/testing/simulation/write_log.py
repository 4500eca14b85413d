"""What a server was asked to write, and how much of it its replica has: a replica that lagged has all but the end."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from flowq.testing.simulation.calls import RedisCall
from flowq.testing.simulation.virtual_server import Write

_ONLY_READS = frozenset(
    ("ping", "time", "client", "mget", "hget", "hgetall", "xinfo", "xpending", "xrange", "snapshot", "pttl", "wave",
     "info", "wait", "waitaof")
)  # fmt: skip
_LAGS_SECONDS = (0.0005, 0.002, 0.002, 0.02, 0.02, 0.1, 0.3)  # each as likely as the others


@dataclass(frozen=True, slots=True)
class Answered:
    """A call that may have written, with its replies."""

    write: Write
    call: RedisCall
    replies: Sequence[Any]


class WriteLog:
    """The calls that may have written, in order, each with the time at which it ran.

    `confirmed`: how many of them the replica has said it has. These are never forgotten.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._answered: list[Answered] = []
        self._moved_at: list[int] = []  # where in the log messages were moved
        self.confirmed = 0

    def __len__(self) -> int:
        return len(self._answered)

    @property
    def writes(self) -> Sequence[Write]:
        """All of them."""
        return [each.write for each in self._answered]

    def add(self, now: float, call: RedisCall, commands: Sequence[Sequence[Any]], replies: Sequence[Any]) -> None:
        """A call has run."""
        if call.name in _ONLY_READS or (call.name in ("read", "pending") and not any(replies)):
            return
        if call.moves_messages or call.name == "read":
            self._moved_at.append(len(self._answered))
        self._answered.append(Answered(Write(now, commands), call, replies))

    def seconds_behind(self, now: float) -> float:
        """How long it takes until the replica has what is written by now."""
        if self.confirmed == len(self._answered):
            return 0.0
        return max(0.0, self._answered[-1].write.now + self._random.choice(_LAGS_SECONDS) - now)

    def look_at_replica(self, now: float) -> None:
        """The replica says how much it has."""
        seen_by = now - self._random.choice(_LAGS_SECONDS)
        self.confirm(bisect_right(self._answered, seen_by, key=lambda each: each.write.now))

    def confirm(self, n: int) -> None:
        """The replica has said that it has the first `n` of them."""
        self.confirmed = max(self.confirmed, n)

    def forget(self, n: int) -> Sequence[Answered]:
        """Forget the last `n` calls that moved messages, and everything since, but nothing that was confirmed."""
        if not n or not self._moved_at:
            return ()
        kept = max(self.confirmed, self._moved_at[-min(n, len(self._moved_at))])
        forgotten = self._answered[kept:]
        del self._answered[kept:]
        self._moved_at = [at for at in self._moved_at if at < kept]
        return forgotten
