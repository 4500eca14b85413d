"""Coalesces writes to Redis: what is added while one is under way goes out together in the next one."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod


class Coalescing(ABC):
    """Writes what has been added, one write at a time. Adding sets `_wake`."""

    def __init__(self) -> None:
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            await self.flush()

    async def flush(self) -> None:
        """Write everything that has been added."""
        async with self._writing:
            self._wake.clear()
            await self._write_added()

    @abstractmethod
    async def _write_added(self) -> None: ...
