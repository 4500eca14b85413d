"""Asks Redis for many messages in replies that it can send: smaller ones after a reply that was cut off."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from flowq.broker.read_size import ReadSize
from flowq.errors import ReplyCutOff

T = TypeVar("T")
R = TypeVar("R")
log = logging.getLogger("flowq.broker")

_TRIES_OF_ONE = 3
_MOST_OF_EACH = 200


class Paging:
    """How many messages one call asks for: half as many after a reply that was cut off, then slowly more again."""

    def __init__(self) -> None:
        self._size = ReadSize()

    def bound(self, wanted: int) -> int:
        """How many to ask for now."""
        return self._size.bound(wanted)

    def cut_off(self, asked: int) -> None:
        """The reply to a call that asked for so many did not arrive."""
        self._size.cut_off(asked)

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
                self._size.arrived()
                return answer, n

    async def of_each(
        self, items: Sequence[T], read: Callable[[Sequence[T]], Awaitable[Sequence[R]]]
    ) -> list[R | None]:
        """What `read` returns for each of some items, asked for some at a time; None for one that does not arrive."""
        found: list[R | None] = []
        while len(found) < len(items):
            left = items[len(found) : len(found) + _MOST_OF_EACH]
            try:
                answers, _ = await self.ask(partial(_of_first, read, left), len(left))
                found += answers
            except ReplyCutOff:
                found.append(None)
        return found


async def _of_first(read: Callable[[Sequence[T]], Awaitable[R]], items: Sequence[T], n: int) -> R:
    return await read(items[:n])


def pass_over(what: str) -> None:
    """Tell the user about a message whose body does not arrive."""
    log.warning("%s does not arrive and is passed over: see client-output-buffer-limit of Redis (flowq doctor)", what)
