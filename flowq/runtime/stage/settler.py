"""Decides how deliveries end, and coalesces settlements into commits: while one is under way, the next one gathers."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.settling import Receipt, Settling
from flowq.delivery.message import Arrival, Row
from flowq.delivery.settlement import Delay, Outcome, Settled, Settlement, Succeeded, decide
from flowq.graph.compilation.plan import StagePlan
from flowq.runtime.handlers.frames import clear_frames_of
from flowq.runtime.identity import Identity
from flowq.runtime.stage.in_flight import InFlight
from flowq.runtime.stage.pacing import Pacer

_MOST_DELIVERIES, _MOST_OUTPUTS, _MOST_BYTES = 1000, 5000, 8_000_000


class Coalescing(ABC):
    """Writes to Redis what has been added, one write at a time. Adding sets `_wake`."""

    def __init__(self) -> None:
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            await self.flush()

    async def flush(self) -> None:
        """Write everything that has been added."""
        async with self._writing:
            self._wake.clear()
            await self._write_added()

    @abstractmethod
    async def _write_added(self) -> None: ...


class Settler(Coalescing):
    """Settles the deliveries of one stage, and updates what is in flight.

    `delayed` is set when Redis has to bring something back later. `pacer` learns which keys have queues.
    """

    def __init__(
        self,
        stage: StagePlan,
        settling: Settling,
        identity: Identity,
        in_flight: InFlight,
        *,
        pacer: Pacer | None = None,
        delayed: asyncio.Event | None = None,
    ) -> None:
        super().__init__()
        self._stage = stage
        self.settling = settling
        self._identity = identity
        self._in_flight = in_flight
        self._pacer = pacer
        self._delayed = delayed or asyncio.Event()
        self._added: defaultdict[Arrival, list[Settled]] = defaultdict(list)
        self._random = settling.world.random
        self._jitter = self._random()

    def add(self, rows: Sequence[Row], outcome: Outcome) -> None:
        """Settle deliveries that share an outcome, with the next commit."""
        added = self._added[rows[0][0]]
        if added and added[-1][1] is outcome and isinstance(alike := added[-1][0], list):
            alike.extend(rows)  # one more success of the many that share one object, and one decision
            return
        settlement = self.decided(rows[0], outcome)
        is_bare = isinstance(settlement, Succeeded) and not settlement.outputs
        if not added:
            self._wake.set()
        added.append(([*rows] if is_bare else rows, settlement))

    def decided(self, row: Row, outcome: Outcome) -> Settlement:
        """The settlement for an outcome. Clears the frames of its error."""
        settlement = decide(outcome, row, self._stage.retry, self._jitter)
        if settlement is not outcome:  # nearly all succeed, and need no jitter
            clear_frames_of(outcome)
            self._jitter = self._random()
        return settlement

    async def _write_added(self) -> None:
        for arrival in list(self._added):  # one by one, so that an edge that is refused holds up no other
            await self._commit(arrival, self._added.pop(arrival))

    async def settle_now(self, arrival: Arrival, settled: Sequence[Settled]) -> list[Row]:
        """Commit settlements at once. Returns the deliveries that this worker no longer held (`Receipt.gone`)."""
        async with self._writing:
            return [row for receipt in await self._commit(arrival, settled) for row in receipt.gone]

    async def _commit(self, arrival: Arrival, settled: Sequence[Settled]) -> list[Receipt]:
        if (claims := self.settling.claims) is not None:
            given = settled
            settled = await retry_until_available(
                self.settling.world, lambda: claims.deposit_settled(given), what=f"settling {self._stage.name}"
            )
        receipts: list[Receipt] = []
        for chunk in chunks(settled):
            receipt = await self.settling.settle(self._stage.name, arrival, chunk.settled, worker=self._identity.worker)
            self._in_flight.settle(arrival.edge, chunk.settled, chunk.n_bytes, receipt)
            if receipt.delayed:
                self._delayed.set()
            if self._pacer is not None:
                self._pacer.queued({how.queue_key for _, how in chunk.settled if isinstance(how, Delay)})
            receipts.append(receipt)
        return receipts


class Chunk(NamedTuple):
    """What one script call settles, and the total size of the messages it sends."""

    settled: Sequence[Settled]
    n_bytes: int


def chunks(settled: Sequence[Settled]) -> list[Chunk]:
    """Split settlements into parts small enough for one script call: Redis serves nothing else while it runs."""
    sizes = [len(output.body) for _, how in settled if isinstance(how, Succeeded) for output in how.outputs]
    n_rows, n_bytes = sum([len(rows) for rows, _ in settled]), sum(sizes)
    if n_rows <= _MOST_DELIVERIES and len(sizes) <= _MOST_OUTPUTS and n_bytes <= _MOST_BYTES:
        return [Chunk(settled, n_bytes)]
    parts: list[Chunk] = []
    part: list[Settled] = []
    n_rows = n_outputs = n_bytes = 0
    for item in (piece for each in settled for piece in _pieces(*each)):
        outputs = item[1].outputs if isinstance(item[1], Succeeded) else ()
        size = sum([len(output.body) for output in outputs])
        too_much = n_outputs + len(outputs) > _MOST_OUTPUTS or n_bytes + size > _MOST_BYTES
        if part and (n_rows + len(item[0]) > _MOST_DELIVERIES or too_much):
            parts.append(Chunk(part, n_bytes))
            part, n_rows, n_outputs, n_bytes = [], 0, 0, 0
        part.append(item)
        n_rows += len(item[0])
        n_outputs += len(outputs)
        n_bytes += size
    parts.append(Chunk(part, n_bytes))
    return parts


def _pieces(rows: Sequence[Row], how: Settlement) -> Iterator[Settled]:
    """Deliveries with outputs stay together: they are those of one batch call."""
    size = len(rows) if isinstance(how, Succeeded) and how.outputs else _MOST_DELIVERIES
    return ((rows[first : first + size], how) for first in range(0, len(rows), size))
