"""Requests many messages in replies that Redis can send: smaller ones after a reply that was cut off."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from flowq.errors import ReplyCutOff

T = TypeVar("T")
R = TypeVar("R")
log = logging.getLogger("flowq.broker")

_TRIES_OF_ONE = 3
_MOST_OF_EACH = 200
_UNBOUNDED = 1 << 62
_REPLIES_PER_STEP = 16
_STEP = 1 / 4


class ReadSize:
    """Halves after each reply that was cut off, down to one message from one edge, then grows slowly.

    Slowly, because a reply that exceeds a limit of the server costs a connection each time. `failures` counts
    consecutive cut-off replies with a single message.

    >>> size = ReadSize()
    >>> size.cut_off(100)
    >>> size.bound(100), size.bound(20)
    (50, 20)
    """

    def __init__(self) -> None:
        self._most = _UNBOUNDED
        self._n_arrived = 0
        self.failures = 0

    @property
    def is_one_edge(self) -> bool:
        """Whether one message from each edge was too much."""
        return self._most == 0

    def bound(self, wanted: int) -> int:
        """The number to ask for."""
        return max(1, min(wanted, self._most))

    def cut_off(self, asked: int) -> None:
        """The reply to a request for `asked` messages did not arrive."""
        if self._most == 0:
            self.failures += 1
        self._most = asked // 2

    def arrived(self) -> None:
        """A reply with messages has arrived."""
        if self._most == _UNBOUNDED:
            return
        self.failures = 0
        self._n_arrived += 1
        if self._n_arrived % _REPLIES_PER_STEP == 0:
            self._most += max(1, int(self._most * _STEP))


class Paging(ReadSize):
    """Asks for as many messages at once as arrive."""

    async def ask(self, read: Callable[[int], Awaitable[T]], wanted: int) -> tuple[T, int]:
        """What `read(n)` returns, and the `n` it was called with: at most `wanted`.

        Raises ReplyCutOff when the reply with a single message is cut off three times.
        """
        tries_of_one = 0
        while True:
            n = self.bound(wanted)
            try:
                answer = await read(n)
            except ReplyCutOff:
                self.cut_off(n)
                tries_of_one += n == 1
                if tries_of_one == _TRIES_OF_ONE:
                    raise
            else:
                self.arrived()
                return answer, n

    async def of_each(
        self, items: Sequence[T], read: Callable[[Sequence[T]], Awaitable[Sequence[R]]]
    ) -> list[R | None]:
        """What `read` returns for each item, requested in pages; None for one that does not arrive."""
        found: list[R | None] = []
        while len(found) < len(items):
            left = items[len(found) : len(found) + _MOST_OF_EACH]
            try:
                answers, _ = await self.ask(lambda n: read(left[:n]), len(left))  # noqa: B023  (called here)
                found += answers
            except ReplyCutOff:
                found.append(None)
        return found


def pass_over(what: str) -> None:
    """Log that the body of a message does not arrive."""
    log.warning("%s cannot be read and is skipped: see client-output-buffer-limit of Redis (flowq doctor)", what)
