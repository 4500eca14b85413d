"""Deletes large bodies that are no longer needed."""

from __future__ import annotations

import contextlib

from flowq.broker.redis_streams import Broker
from flowq.broker.stored_bodies import StoredBodies
from flowq.errors import BrokerUnavailable

_EVERY_SECONDS = 10.0


class ClaimKeeper:
    """Every worker has one: they may run at the same time."""

    name = "claim keeper"

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def step(self) -> float:
        with contextlib.suppress(BrokerUnavailable):  # Redis or the folder: both recover
            await StoredBodies(self._broker).delete_released()
        return _EVERY_SECONDS
