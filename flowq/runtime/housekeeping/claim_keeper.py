"""Deletes the large bodies that are no longer needed."""

from __future__ import annotations

import asyncio
import contextlib

from flowq.broker.redis_streams import Broker
from flowq.broker.released import delete_released
from flowq.errors import BrokerUnavailable

_EVERY_SECONDS = 10.0


class ClaimKeeper:
    """One in each worker: they may run at the same time."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def run(self) -> None:
        while True:
            with contextlib.suppress(BrokerUnavailable):  # Redis or the folder: both recover
                await delete_released(self._broker)
            await asyncio.sleep(_EVERY_SECONDS)
