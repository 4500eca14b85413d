"""What the server was asked to write: a replica that lagged has all of it but the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowq.testing.simulation.calls import RedisCall
from flowq.testing.simulation.virtual_server import Write

_ONLY_READS = frozenset(
    ("ping", "time", "client", "mget", "hgetall", "xinfo", "xpending", "xrange", "snapshot", "pttl")
)


class WriteLog:
    """The calls that may have written, in order, each with the time at which it ran."""

    def __init__(self) -> None:
        self._writes: list[Write] = []
        self._moved_at: list[int] = []  # where in the log messages were moved

    def add(self, now: float, call: RedisCall, commands: Sequence[Sequence[Any]], replies: Sequence[Any]) -> None:
        """A call has run."""
        if call.name in _ONLY_READS or (call.name in ("read", "pending") and not any(replies)):
            return
        if call.moves_messages or call.name == "read":
            self._moved_at.append(len(self._writes))
        self._writes.append(Write(now, commands))

    def without_last(self, n: int) -> Sequence[Write]:
        """Forget the last `n` calls that moved messages, and everything since; return what is left."""
        if n and self._moved_at:
            del self._writes[self._moved_at[-min(n, len(self._moved_at))] :]
            del self._moved_at[-n:]
        return self._writes
