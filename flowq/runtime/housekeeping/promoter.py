"""Moves delayed messages back to their edges when they are due."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.edges import Edges
from flowq.broker.redis_streams import Broker

_LONGEST_PAUSE_SECONDS = 1.0


class Promoter:
    """Looks again when the next message is due, at the latest after a second. Set `delayed` after delaying one."""

    name = "promoter"

    def __init__(self, broker: Broker, edges: Sequence[str]) -> None:
        self._stored = Edges(broker)
        self._edges = edges
        self.delayed = asyncio.Event()  # the new one may be due before all others

    async def step(self) -> float:
        self.delayed.clear()
        moved, next_ms = await retry_until_available(
            lambda: self._stored.promote(self._edges), what="promoting delayed messages"
        )
        if moved >= 1000:
            return 0
        pause_seconds = _LONGEST_PAUSE_SECONDS if next_ms is None else next_ms / 1000 + 0.001
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(_LONGEST_PAUSE_SECONDS, pause_seconds)):
                await self.delayed.wait()
                await asyncio.sleep(0.005)  # others are being delayed as well: one look for all of them
        return 0
