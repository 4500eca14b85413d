"""The bug: an effect without an idempotency key. When the message runs again, the card is charged again."""

from __future__ import annotations

import asyncio
from collections import Counter

from pydantic import BaseModel

from flowq import Context, Pipeline, resource, stage, use
from flowq.testing.pipeline_harness import Harness
from tests.testing.planted.bug import Bug


class Order(BaseModel):
    id: int


class Payments:
    """What the payment service remembers: it knows a charge again by its key."""

    def __init__(self) -> None:
        self.charges: Counter[int] = Counter()
        self._keys: set[str] = set()

    async def charge(self, order: Order, *, key: str | None = None) -> None:
        await asyncio.sleep(0.01)
        if key is None or key not in self._keys:
            self.charges[order.id] += 1
        if key is not None:
            self._keys.add(key)


@resource
def payments() -> Payments:
    return Payments()


@stage
async def charge(order: Order, payments: Payments = use(payments)) -> None:
    await payments.charge(order)


@stage(name="charge")
async def charge_once(order: Order, ctx: Context, payments: Payments = use(payments)) -> None:
    await payments.charge(order, key=ctx.message_id)


async def build(h: Harness, size: int) -> None:
    for number in range(size):
        await h.feed("charge", Order(id=number))
    await h.drain()
    charges = h.resource(payments).charges
    assert charges.keys() == set(range(size))
    for order, times in charges.items():
        assert times == 1, f"order {order} was charged {times} times"


BUG = Bug(Pipeline("shop", charge), Pipeline("shop", charge_once), build, lambda: {payments: Payments()})
