"""The bug: each worker counts for itself, so two of them, or one and its successor, give the same number twice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pydantic import BaseModel

from flowq import Context, Pipeline, resource, stage, use
from flowq.testing.pipeline_harness import Harness
from tests.testing.planted.bug import Bug


class Order(BaseModel):
    id: int


class Invoice(BaseModel):
    order: int
    number: int


class Archive:
    """Gives each message a number of its own, the same one when it asks again, and keeps one invoice of each number."""

    def __init__(self) -> None:
        self.invoices: dict[int, Invoice] = {}
        self._numbers: dict[str, int] = {}

    def number_for(self, message_id: str) -> int:
        return self._numbers.setdefault(message_id, len(self._numbers) + 1)


@resource
def archive() -> Archive:
    return Archive()


@resource
def counter() -> Iterator[Iterator[int]]:
    yield itertools.count(1)


@stage
async def bill(order: Order, counter: Iterator[int] = use(counter)) -> Invoice:
    return Invoice(order=order.id, number=next(counter))


@stage(name="bill")
async def bill_by_message(order: Order, ctx: Context, archive: Archive = use(archive)) -> Invoice:
    return Invoice(order=order.id, number=archive.number_for(ctx.message_id))


@stage
async def store(invoice: Invoice, archive: Archive = use(archive)) -> None:
    archive.invoices[invoice.number] = invoice


async def build(h: Harness, size: int) -> None:
    for number in range(size):
        await h.feed("bill", Order(id=number))
    await h.drain()
    stored = {invoice.order for invoice in h.resource(archive).invoices.values()}
    replaced = sorted(set(range(size)) - stored)
    assert not replaced, f"another invoice has the number of order {replaced[0]}"


BUG = Bug(
    Pipeline("billing", bill >> store),
    Pipeline("billing", bill_by_message >> store),
    build,
    lambda: {archive: Archive()},
)
