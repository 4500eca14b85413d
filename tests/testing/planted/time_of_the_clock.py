"""The bug: a sale is booked under the time of the clock. Another attempt books it under another time as well."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from flowq import Pipeline, resource, stage, use
from flowq.testing.pipeline_harness import Harness
from tests.testing.planted.bug import Bug


class Sale(BaseModel):
    id: int
    sold_at: int  # seconds


class Books:
    """Sales by the ten seconds that they were made in. To book a sale again under the same time changes nothing."""

    def __init__(self) -> None:
        self.booked: set[tuple[int, int]] = set()

    async def book(self, sale: Sale, at: float) -> None:
        await asyncio.sleep(0.01)
        self.booked.add((sale.id, int(at) // 10))


@resource
def books() -> Books:
    return Books()


@stage
async def book(sale: Sale, books: Books = use(books)) -> None:
    await books.book(sale, at=asyncio.get_running_loop().time())


@stage(name="book")
async def book_when_sold(sale: Sale, books: Books = use(books)) -> None:
    await books.book(sale, at=sale.sold_at)


async def build(h: Harness, size: int) -> None:
    for number in range(size):
        await h.feed("book", Sale(id=number, sold_at=0))
    await h.drain()
    booked = [sale_id for sale_id, _ in h.resource(books).booked]
    twice = sorted({sale_id for sale_id in booked if booked.count(sale_id) > 1})
    assert not twice, f"sale {twice[0]} is booked under two times"


BUG = Bug(Pipeline("books", book), Pipeline("books", book_when_sold), build, lambda: {books: Books()})
