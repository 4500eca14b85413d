"""Where the slots of a stage wait for work."""

from __future__ import annotations

import asyncio
from collections import deque


class WaitQueue:
    """Tasks that wait to be woken, the one that has waited longest first."""

    def __init__(self) -> None:
        self._asleep: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._asleep)

    async def sleep(self) -> None:
        """Wait until woken."""
        woken = asyncio.get_running_loop().create_future()
        self._asleep.append(woken)
        await woken

    def wake(self, most: int) -> None:
        """Wake up to `most` tasks. Those cancelled meanwhile do not count."""
        while most > 0 and self._asleep:
            woken = self._asleep.popleft()
            if not woken.done():
                woken.set_result(None)
                most -= 1
