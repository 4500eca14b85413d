"""Where deliveries wait for a turn that is close."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from flowq.delivery.message import Delivery
from flowq.delivery.settlement import Postponed
from flowq.runtime.pacing import Pacer


class WaitingRoom:
    """Deliveries whose turns are so close that they wait here: not in Redis, and not in a slot.

    `start` is called with those whose turn has come, `postpone` with each that must wait elsewhere.
    """

    def __init__(
        self,
        pacer: Pacer | None,
        *,
        start: Callable[[Sequence[Delivery]], None],
        postpone: Callable[[Delivery, Postponed], None],
    ) -> None:
        self._pacer = pacer
        self._start = start
        self._postpone = postpone
        self._timers: dict[tuple[str, bytes], tuple[asyncio.TimerHandle, Delivery]] = {}

    @property
    def n(self) -> int:
        """How many are waiting."""
        return len(self._timers)

    async def admit(self, deliveries: Sequence[Delivery], *, again: bool = False) -> None:
        """Start each of these when its turn comes. `again`: they have missed their turns."""
        assert self._pacer is not None
        for delivery, turn in zip(deliveries, await self._pacer.turns(deliveries, again=again), strict=True):
            if isinstance(turn, Postponed):
                self._postpone(delivery, turn)
            elif turn.wait_seconds > 0:
                timer = asyncio.get_running_loop().call_later(turn.wait_seconds, self._call, delivery)
                self._timers[delivery.edge, delivery.entry_id] = timer, delivery
            else:
                self._start([delivery])

    def missed(self, todo: deque[Delivery]) -> list[Delivery]:
        """Remove and return the deliveries in `todo` that have missed their turns, if the first of them has."""
        missed, on_time = list[Delivery](), list[Delivery]()
        if self._pacer is not None and todo and self._pacer.has_missed(todo[0]):
            for delivery in todo:
                (missed if self._pacer.has_missed(delivery) else on_time).append(delivery)
            todo.clear()
            todo.extend(on_time)
        return missed

    def empty(self) -> list[Delivery]:
        """Remove and return all waiting deliveries: they will not be started here."""
        waiting = list(self._timers.values())
        self._timers.clear()
        for timer, _ in waiting:
            timer.cancel()
        return [delivery for _, delivery in waiting]

    def _call(self, delivery: Delivery) -> None:
        del self._timers[delivery.edge, delivery.entry_id]
        self._start([delivery])
