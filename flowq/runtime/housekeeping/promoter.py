"""Moves delayed messages back to their edges when they are due."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.edges import Edges
from flowq.broker.redis_streams import Broker
from flowq.runtime.waiting import first_to_end

_LONGEST_PAUSE_SECONDS = 1.0


class Promoter:
    """Looks again when the next message is due, at the latest after a second. Set `delayed` after delaying one."""

    name = "promoter"

    def __init__(self, broker: Broker, edges: Sequence[str]) -> None:
        self._stored = Edges(broker)
        self._world = broker.world
        self._edges = edges
        self.delayed = asyncio.Event()  # the new one may be due before all others

    async def step(self) -> float:
        self.delayed.clear()
        moved, next_ms = await retry_until_available(
            self._world, lambda: self._stored.promote(self._edges), what="promoting delayed messages"
        )
        if moved >= 1000:
            return 0
        is_due = [] if next_ms is None else [asyncio.sleep(next_ms / 1000 + 0.001)]
        await first_to_end(self._has_delayed(), self._world.pause(_LONGEST_PAUSE_SECONDS), *is_due)
        return 0

    async def _has_delayed(self) -> None:
        await self.delayed.wait()
        await asyncio.sleep(0.005)  # others are being delayed as well: one look for all of them
