"""Where deliveries wait for a turn that is close."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flowq.delivery.message import Delivery
from flowq.delivery.settlement import Postponed
from flowq.runtime.stage.pacing import Pacer
from flowq.runtime.stage.ready_queue import ReadyQueue


class WaitingRoom:
    """Deliveries whose turns are so close that they wait here: not in Redis, and not in a slot."""

    def __init__(self, pacer: Pacer, ready: ReadyQueue) -> None:
        self.pacer = pacer
        self._ready = ready
        self._timers: dict[tuple[str, bytes], tuple[asyncio.TimerHandle, Delivery]] = {}

    @property
    def n(self) -> int:
        """How many are waiting."""
        return len(self._timers)

    async def admit(self, deliveries: Sequence[Delivery], *, again: bool) -> list[tuple[Delivery, Postponed]]:
        """Let each of these start when its turn comes, and return those whose turns are far off.

        `again`: they have missed their turns.
        """
        postponed: list[tuple[Delivery, Postponed]] = []
        for delivery, turn in zip(deliveries, await self.pacer.turns(deliveries, again=again), strict=True):
            if isinstance(turn, Postponed):
                postponed.append((delivery, turn))
            elif turn.wait_seconds > 0:
                timer = asyncio.get_running_loop().call_later(turn.wait_seconds, self._end_wait, delivery)
                self._timers[delivery.edge, delivery.entry_id] = timer, delivery
            else:
                self._ready.add((delivery,))
        return postponed

    def withdraw_missed(self) -> list[Delivery]:
        """Remove and return the ready deliveries that have missed their turns, if the first of them has."""
        missed, on_time = list[Delivery](), list[Delivery]()
        ready = self._ready.ready
        if ready and self.pacer.has_missed(Delivery(*ready[0])):
            for delivery in (Delivery(*row) for row in ready):
                (missed if self.pacer.has_missed(delivery) else on_time).append(delivery)
            ready.clear()
            ready.extend(on_time)
        return missed

    def withdraw(self) -> list[Delivery]:
        """Remove and return all waiting deliveries."""
        waiting = list(self._timers.values())
        self._timers.clear()
        for timer, _ in waiting:
            timer.cancel()
        return [delivery for _, delivery in waiting]

    def _end_wait(self, delivery: Delivery) -> None:
        del self._timers[delivery.edge, delivery.entry_id]
        self._ready.add((delivery,))
