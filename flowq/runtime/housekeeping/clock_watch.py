"""Watches the Redis clock for steps back."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.clock import follow_clock
from flowq.broker.redis_streams import Broker
from flowq.graph.compilation.plan import Plan

log = logging.getLogger("flowq.runtime")

_EVERY_SECONDS = 2.0


class ClockKeeper:
    """Reads the clock every other second, and logs when it was set back."""

    def __init__(self, broker: Broker, plan: Plan) -> None:
        self._broker = broker
        self._plan = plan

    async def run(self) -> None:
        look = partial(follow_clock, self._broker, self._plan)
        while True:
            if back_seconds := await retry_until_available(look, what="looking at the clock"):
                log.warning("the Redis clock was set back by %.0f s: delays and holds are moved with it", back_seconds)
            await asyncio.sleep(_EVERY_SECONDS)
