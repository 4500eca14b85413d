"""Finds deliveries that Redis sent to this worker and that never arrived, and decides when to look for them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from functools import partial

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.reader import FIRST_PENDING, Reader
from flowq.broker.redis_streams import Broker
from flowq.delivery.message import Delivery
from flowq.runtime.stage.in_flight import InFlight

_EVERY_SECONDS, _SOON_SECONDS = 30.0, 0.5


class Reconciliation:
    """Due periodically, and after anything that may have lost a reply."""

    def __init__(self, broker: Broker, edges: Sequence[str]) -> None:
        self._broker = broker
        self._edges = edges
        self._begin()

    @property
    def is_due(self) -> bool:
        return self._broker.losses != self._losses or time.monotonic() >= self._due_at

    def _begin(self) -> None:
        self._losses, self._due_at = self._broker.losses, time.monotonic() + _EVERY_SECONDS

    def hasten(self, seconds: float = _SOON_SECONDS) -> None:
        """Make it due after `seconds` at the latest."""
        self._due_at = min(self._due_at, time.monotonic() + seconds)

    async def missing(self, reader: Reader, held: InFlight, worker: str) -> AsyncIterator[Sequence[Delivery]]:
        """Deliveries that are pending for this worker but never arrived: the reply to its read was lost.

        Excludes whatever was held at any time during the query, since it may have been settled meanwhile. Works page by
        page: the deliveries of one page can start before the next one is read, and need not be read again.
        """
        self._begin()
        n_bytes = 0
        for edge in self._edges:
            after: bytes | None = FIRST_PENDING
            while after is not None:
                next_page = partial(reader.page_of_own_pending, worker, edge, after=after)
                with held.watched() as known:
                    page, after = await retry_until_available(next_page, what=f"reading {edge}")
                if missing := [delivery for delivery in page if (edge, delivery.entry_id) not in known]:
                    n_bytes += sum([len(delivery.body) for delivery in missing])
                    yield missing
        if reader.passes_over:  # their replies were lost, and would be lost again
            self._losses = self._broker.losses
        reader.found(n_bytes)
