"""The edges that a stage feeds, and whether they are too full for it to go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from flowq.broker.redis_streams import Broker
from flowq.errors import BrokerUnavailable

_RESUME_AT = 0.8
_LOOK_EVERY_SECONDS = 0.1


class Outlets:
    """Back-pressure from what follows: full at an edge's limit, free again at four fifths of it.

    How full the edges are is told by every commit, so that it costs nothing while the stage works; only one that
    has stopped has to ask.
    """

    def __init__(self, broker: Broker, limits: Mapping[str, int]) -> None:
        self._broker = broker
        self._limits = limits
        self._full: set[str] = set()

    def bound(self, read_ahead: int) -> int:
        """How much may be read ahead: a reader that stops at the limit has at most as much again under way."""
        return min(read_ahead, *self._limits.values()) if self._limits else read_ahead

    @property
    def are_full(self) -> bool:
        return bool(self._full)

    def note(self, outstanding: Mapping[str, int]) -> None:
        """Take in how many messages are outstanding on some edges."""
        for edge, n in outstanding.items():
            limit = self._limits.get(edge)
            if limit is None:
                continue
            if n >= limit:
                self._full.add(edge)
            elif n < limit * _RESUME_AT:
                self._full.discard(edge)

    async def look(self) -> None:
        """Ask how full the edges are now."""
        if self._limits:
            with contextlib.suppress(BrokerUnavailable):
                self.note(await self._broker.outstanding(list(self._limits)))

    async def look_again(self) -> None:
        """The same after a moment."""
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
        await self.look()
