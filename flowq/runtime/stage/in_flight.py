"""What a stage of this process has received and not settled, and how much more it may receive."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Container, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from operator import itemgetter

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.flow_control.backpressure import Backpressure
from flowq.broker.reader import FIRST_PENDING, Reader
from flowq.broker.redis_streams import Broker
from flowq.broker.settling import Receipt
from flowq.delivery.message import Delivery, Row
from flowq.delivery.settlement import Delay, Settled
from flowq.runtime.stage.read_ahead import ReadAhead
from flowq.world import REAL, World

_EVERY_SECONDS, _SOON_SECONDS = 30.0, 0.5


class InFlight:
    """The entries in flight by edge; `n` is their number. `changed` is set when there may be room to read more."""

    def __init__(self, backpressure: Backpressure, *, settled_first: bool = False, world: World = REAL) -> None:
        self.n = 0
        self.backpressure = backpressure
        self.read_ahead = ReadAhead()
        self.changed = asyncio.Event()
        self._now = world.monotonic
        self._settled_first = settled_first  # then a settlement is not the end of any work
        self._ids: defaultdict[str, set[bytes]] = defaultdict(set)
        self._watch: set[tuple[str, bytes]] | None = None

    def receive(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Add these; returns those that are new."""
        new: list[Row] = []
        for arrival, together in groupby(rows, key=itemgetter(0)):
            ids, arrived = self._ids[arrival.edge], list(together)
            if not ids.isdisjoint([row[1] for row in arrived]):
                arrived = [row for row in arrived if row[1] not in ids]
            ids.update([row[1] for row in arrived])
            new += arrived
        self.n += len(new)
        if self._watch is not None:
            self._watch.update([(row[0].edge, row[1]) for row in new])
        return new

    def settle(self, edge: str, settled: Sequence[Settled], n_bytes: int, receipt: Receipt) -> None:
        """Remove these after their settlement, which sent `n_bytes`."""
        ids = self._ids[edge]
        before = len(ids)
        ids.difference_update([row[1] for rows, _ in settled for row in rows])
        n_settled = before - len(ids)
        self.n -= n_settled
        if not self._settled_first:
            # Postponed deliveries cost no time: counted as work, they would cause the whole edge to be read ahead.
            n_postponed = sum([isinstance(how, Delay) and not how.counted for _, how in settled])
            self.read_ahead.count(max(0, n_settled - n_postponed), self._now())
            self.backpressure.sent(n_bytes, handled=n_settled)  # otherwise the outbox reports it
        self.backpressure.note(receipt.outstanding)
        self.changed.set()

    @contextmanager
    def watched(self) -> Generator[Container[tuple[str, bytes]]]:
        """Edge and id of everything that is in flight at any time within the `with`, however briefly."""
        self._watch = {(edge, entry_id) for edge, ids in self._ids.items() for entry_id in ids}
        try:
            yield self._watch
        finally:
            self._watch = None


class Reconciliation:
    """Due periodically, and after anything that may have lost a reply."""

    def __init__(self, broker: Broker, edges: Sequence[str]) -> None:
        self._broker = broker
        self._edges = edges
        self._now = broker.world.monotonic
        self._begin()

    @property
    def is_due(self) -> bool:
        return self._broker.losses != self._losses or self._now() >= self._due_at

    def _begin(self) -> None:
        self._losses, self._due_at = self._broker.losses, self._now() + _EVERY_SECONDS

    def hasten(self, seconds: float = _SOON_SECONDS) -> None:
        """Make it due after `seconds` at the latest."""
        self._due_at = min(self._due_at, self._now() + seconds)

    async def missing(self, reader: Reader, in_flight: InFlight, worker: str) -> AsyncIterator[Sequence[Delivery]]:
        """Deliveries that are pending for this worker but never arrived: the reply to its read was lost.

        Excludes whatever was in flight at any time during the query, since it may have been settled meanwhile. Works
        page by page: the deliveries of one page can start before the next one is read, and need not be read again.
        """
        self._begin()
        n_bytes = 0
        for edge in self._edges:
            after: bytes | None = FIRST_PENDING
            while after is not None:
                next_page = partial(reader.page_of_own_pending, worker, edge, after=after)
                with in_flight.watched() as known:
                    page, after = await retry_until_available(self._broker.world, next_page, what=f"reading {edge}")
                if missing := [delivery for delivery in page if (edge, delivery.entry_id) not in known]:
                    n_bytes += sum([len(delivery.body) for delivery in missing])
                    yield missing
        if reader.passes_over:  # their replies were lost, and would be lost again
            self._losses = self._broker.losses
        reader.found(n_bytes)
