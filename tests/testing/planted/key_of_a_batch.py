"""The bug: one idempotency key for a whole batch. What runs again comes in another batch, under another key."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel

from flowq import Pipeline, resource, stage, use
from flowq.testing.pipeline_harness import Harness
from tests.testing.planted.bug import Bug


class Sale(BaseModel):
    id: int


class Warehouse:
    """A store that takes each key once."""

    def __init__(self) -> None:
        self.stored: Counter[int] = Counter()
        self._keys: set[str] = set()

    async def store(self, sales: Sequence[Sale], *, key: str) -> None:
        await asyncio.sleep(1)
        if key not in self._keys:
            self._keys.add(key)
            self.stored.update(sale.id for sale in sales)


@resource
def warehouse() -> Warehouse:
    return Warehouse()


@stage(batch=3, linger=0.1)
async def load(sales: list[Sale], warehouse: Warehouse = use(warehouse)) -> None:
    await warehouse.store(sales, key="-".join(str(sale.id) for sale in sales))


@stage(name="load", batch=3, linger=0.1)
async def load_each(sales: list[Sale], warehouse: Warehouse = use(warehouse)) -> None:
    for sale in sales:
        await warehouse.store([sale], key=str(sale.id))


async def build(h: Harness, size: int) -> None:
    for number in range(size):
        await h.feed("load", Sale(id=number))
        await h.advance(seconds=0.2)  # longer than the linger, so that each begins a batch of its own
    await h.drain()
    stored = h.resource(warehouse).stored
    assert stored.keys() == set(range(size))
    for sale, times in stored.items():
        assert times == 1, f"sale {sale} was stored {times} times"


BUG = Bug(Pipeline("sales", load), Pipeline("sales", load_each), build, lambda: {warehouse: Warehouse()}, size=8)
