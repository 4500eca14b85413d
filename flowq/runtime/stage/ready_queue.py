"""Deliveries that may start now, and the slots that wait for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable

from flowq.delivery.message import Row
from flowq.graph.kinds import Batch
from flowq.large_bodies.reference import stored_bytes
from flowq.runtime.stage.read_ahead import ReadAhead
from flowq.world import REAL, World


class ReadyQueue:
    """Deliveries in the order in which they start. Of the slots that wait, the one that has waited longest is first.

    `gauge` is told when all of `n_slots` begin to wait, and when the first of them goes on.
    """

    def __init__(self, gauge: ReadAhead | None = None, n_slots: int = 0, world: World = REAL) -> None:
        self.ready: deque[Row] = deque()
        self._gauge = gauge
        self._now = world.monotonic
        self._n_slots = n_slots
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lingers = True

    def add(self, rows: Iterable[Row]) -> None:
        """Let these start as soon as slots are free."""
        before = len(self.ready)
        self.ready.extend(rows)
        self._wake(len(self.ready) - before)

    def withdraw(self) -> list[Row]:
        """Remove and return everything that has not started."""
        unstarted = list(self.ready)
        self.ready.clear()
        return unstarted

    async def wait(self) -> None:
        """Wait until something may have been added."""
        woken = asyncio.get_running_loop().create_future()
        self._waiting.append(woken)
        if self._gauge is not None and len(self._waiting) == self._n_slots:
            self._gauge.pause(self._now())
        await woken

    def _wake(self, most: int) -> None:
        if most and self._gauge is not None:
            self._gauge.resume(self._now())
        while most > 0 and self._waiting:
            woken = self._waiting.popleft()
            if not woken.done():  # cancelled
                woken.set_result(None)
                most -= 1

    def stop_lingering(self) -> None:
        """From now on batches start without waiting to become full."""
        self._lingers = False
        self._wake(len(self._waiting))

    async def fill(self, batch: list[Row], limits: Batch) -> None:
        """Fill a batch of one delivery with those that may settle with it, until it is full or its linger time is over.

        It stays the same list throughout: what is in it has started.
        """
        now = asyncio.get_running_loop().time
        size, max_bytes, n_bytes = limits.size, limits.max_bytes, stored_bytes(batch[0])
        deadline = now() + limits.linger_seconds
        while len(batch) < size and (max_bytes is None or n_bytes < max_bytes):
            if (
                self.ready
                and self.ready[0][0] == batch[0][0]
                and (max_bytes is None or n_bytes + stored_bytes(self.ready[0]) <= max_bytes)
            ):
                batch.append(self.ready.popleft())
                if max_bytes is not None:
                    n_bytes += stored_bytes(batch[-1])
            elif self.ready or now() >= deadline or not self._lingers:
                break
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await self.wait()
