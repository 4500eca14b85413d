"""Coalesces settlements into commits: while one is under way, the next one gathers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.settling import Receipt, Settling
from flowq.delivery.message import Delivery
from flowq.delivery.settlement import Ack, Settled
from flowq.runtime.stage.coalescing import Coalescing

_MOST_DELIVERIES, _MOST_OUTPUTS, _MOST_BYTES = 1000, 5000, 8_000_000


class Chunk(NamedTuple):
    """What one script call settles, and the total size of the messages it sends."""

    items: Sequence[Settled]
    n_bytes: int


class Settler(Coalescing):
    """Settles the deliveries of one stage. Calls `settled` with the edge and what was written after each commit."""

    def __init__(
        self,
        stage: str,
        settling: Settling,
        *,
        current_worker: Callable[[], str],
        settled: Callable[[str, Chunk, Receipt], None],
    ) -> None:
        super().__init__()
        self._stage = stage
        self._settling = settling
        self.claims = settling.claims
        self._current_worker = current_worker
        self._settled = settled
        self._finished: defaultdict[str, list[Settled]] = defaultdict(list)

    def add(self, edge: str, item: Settled) -> None:
        """Settle this with the next commit."""
        self._finished[edge].append(item)
        self._wake.set()

    async def _write_added(self) -> None:
        finished, self._finished = self._finished, defaultdict(list)
        for edge, items in finished.items():
            for chunk in chunks(await self._deposited(items)):
                await self._commit(edge, chunk)

    async def settle_now(self, edge: str, items: Sequence[Settled]) -> list[Delivery]:
        """Commit settlements at once. Returns the deliveries that this worker no longer held (`Receipt.gone`)."""
        gone: list[Delivery] = []
        async with self._writing:
            for chunk in chunks(await self._deposited(items)):
                gone += (await self._commit(edge, chunk)).gone
        return gone

    async def _deposited(self, items: Sequence[Settled]) -> Sequence[Settled]:
        """The same settlements, their large bodies moved to the claim store."""
        if (claims := self.claims) is None:
            return items
        return await retry_until_available(lambda: claims.deposit_settled(items), what=f"settling {self._stage}")

    async def _commit(self, edge: str, chunk: Chunk) -> Receipt:
        receipt = await self._settling.settle(self._stage, edge, chunk.items, worker=self._current_worker())
        self._settled(edge, chunk, receipt)
        return receipt

    async def close(self) -> None:
        await self._settling.close()


def chunks(items: Sequence[Settled]) -> list[Chunk]:
    """Split settlements into parts small enough for one script call: Redis serves nothing else while it runs."""
    outputs = [output for _, settlement in items if isinstance(settlement, Ack) for output in settlement.outputs]
    n_bytes = sum([len(output.body) for output in outputs])
    if len(items) <= _MOST_DELIVERIES and len(outputs) <= _MOST_OUTPUTS and n_bytes <= _MOST_BYTES:
        return [Chunk(items, n_bytes)]
    parts: list[Chunk] = []
    part: list[Settled] = []
    n_outputs = n_bytes = 0
    for item in items:
        given = item[1].outputs if isinstance(item[1], Ack) else ()
        size = sum([len(output.body) for output in given])
        too_much = n_outputs + len(given) > _MOST_OUTPUTS or n_bytes + size > _MOST_BYTES
        if part and (len(part) >= _MOST_DELIVERIES or too_much):
            parts.append(Chunk(part, n_bytes))
            part, n_outputs, n_bytes = [], 0, 0
        part.append(item)
        n_outputs += len(given)
        n_bytes += size
    parts.append(Chunk(part, n_bytes))
    return parts
