"""Watches the Redis clock for steps back."""

from __future__ import annotations

import logging

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.clock import Clock
from flowq.broker.redis_streams import Broker
from flowq.graph.compilation.plan import Plan

log = logging.getLogger("flowq.runtime")

_EVERY_SECONDS = 2.0


class ClockWatch:
    """Reads the clock every other second. If it was set back, logs that and moves stored times with it."""

    name = "clock watch"

    def __init__(self, broker: Broker, plan: Plan) -> None:
        self._broker = broker
        self._plan = plan

    async def step(self) -> float:
        back_seconds = await retry_until_available(
            self._broker.world, lambda: Clock(self._broker).follow(self._plan), what="reading the clock"
        )
        if back_seconds:
            log.warning("the Redis clock was set back by %.0f s: delays and holds are moved with it", back_seconds)
        return _EVERY_SECONDS
