"""Settles deliveries of stages with ack="first" before they start: all that have been read meanwhile in one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from flowq.delivery.message import Delivery
from flowq.runtime.stage.early_ack import EarlyAck


class SettlingAhead:
    """Passes the deliveries that may run to `start`. For stages without a rate: there it is known what starts next."""

    def __init__(self, early: EarlyAck, start: Callable[[Sequence[Delivery]], None]) -> None:
        self._early = early
        self._start = start
        self._admitted: list[Delivery] = []
        self._wake = asyncio.Event()
        self._settling = asyncio.Lock()
        self.n_settling = 0  # in the commit under way

    def admit(self, deliveries: Sequence[Delivery]) -> None:
        """Settle these and start them."""
        self._admitted += deliveries
        self._wake.set()

    def withdraw(self) -> list[Delivery]:
        """The deliveries that have been admitted and not settled: they will not be settled here."""
        admitted, self._admitted = self._admitted, []
        return admitted

    async def run(self) -> None:
        """Settle and start until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._settling:
                deliveries = self.withdraw()
                self.n_settling = len(deliveries)
                if won := await self._early.win(deliveries):
                    self._start(won)
                self.n_settling = 0

    async def until_started(self) -> None:
        """Wait until the deliveries in the commit under way have been started."""
        async with self._settling:
            pass
