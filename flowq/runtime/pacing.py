"""Keeps the starts of a stage within its rate, per key and over all workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from flowq.broker.calls import insist
from flowq.broker.redis_streams import Broker
from flowq.delivery.codec import Decode, decoder, value_of
from flowq.delivery.message import Delivery
from flowq.delivery.policy import Rate
from flowq.delivery.settlement import Failed, Outcome
from flowq.errors import RetryLater
from flowq.graph.plan import StagePlan


class Pacer:
    """Asks for the turns of deliveries, a batch at a time, and holds keys.

    The key of a message is the value of `Rate(by=...)`, or the stage itself. A message whose key cannot be told is
    not paced: its handling will find out what is wrong with it.
    """

    def __init__(self, stage: StagePlan, rate: Rate, broker: Broker) -> None:
        self._stage = stage.name
        self._rate = rate
        self._broker = broker
        self._decode: Decode = decoder(stage.accepts)

    async def waits_seconds(self, deliveries: Sequence[Delivery]) -> list[float]:
        """Seconds that each of these has to wait for its turn, 0 for those that may start now."""
        keys = [self._key_of(delivery) for delivery in deliveries]
        asked = [
            (key, delivery.header.granted) for key, delivery in zip(keys, deliveries, strict=True) if key is not None
        ]
        reserve, rate = self._broker.reserve, self._rate
        waits = iter(
            await insist(
                lambda: reserve(self._stage, asked, interval_seconds=rate.interval_seconds, burst=rate.burst),
                what=f"pacing {self._stage}",
            )
            if asked
            else ()
        )
        return [next(waits) if key is not None else 0.0 for key in keys]

    async def hold_if_asked(self, outcome: Outcome, delivery: Delivery) -> None:
        """Start nothing of this delivery's key for a while, if its handler has raised RetryLater(hold=...)."""
        if not (isinstance(outcome, Failed) and isinstance(outcome.error, RetryLater) and outcome.error.hold):
            return
        key, seconds = self._key_of(delivery), outcome.error.after
        if key is not None:
            await insist(lambda: self._broker.hold(self._stage, key, seconds), what=f"holding {key}")

    def _key_of(self, delivery: Delivery) -> str | None:
        by = self._rate.by
        if by is None:
            return "*"
        try:
            return value_of(self._decode(delivery.body), by)
        except Exception:  # noqa: BLE001  (undecodable bytes, or the user's property)
            return None


class WaitingRoom:
    """Deliveries whose turn comes in a moment: not worth a way through Redis, and in nobody's slot meanwhile."""

    def __init__(self, start: Callable[[Sequence[Delivery]], None]) -> None:
        self._start = start
        self._timers: dict[tuple[str, bytes], tuple[asyncio.TimerHandle, Delivery]] = {}

    def admit(self, delivery: Delivery, wait_seconds: float) -> None:
        """Start this one then."""
        timer = asyncio.get_running_loop().call_later(wait_seconds, self._call, delivery)
        self._timers[delivery.edge, delivery.entry_id] = timer, delivery

    def empty(self) -> list[Delivery]:
        """Everybody who is still waiting, and will not be started any more."""
        waiting = list(self._timers.values())
        self._timers.clear()
        for timer, _ in waiting:
            timer.cancel()
        return [delivery for _, delivery in waiting]

    def _call(self, delivery: Delivery) -> None:
        del self._timers[delivery.edge, delivery.entry_id]
        self._start([delivery])
