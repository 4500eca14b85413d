"""The bug: the handler takes the message that arrives last for the newest. Nothing keeps messages in order."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from flowq import Pipeline, resource, stage, use
from flowq.testing.pipeline_harness import Harness
from tests.testing.planted.bug import Bug


class Price(BaseModel):
    version: int


class Catalogue:
    """Holds one price, and the version that it is of."""

    def __init__(self) -> None:
        self.version = 0

    async def put(self, price: Price) -> None:
        await asyncio.sleep(0.01)
        self.version = price.version

    async def put_if_newer(self, price: Price) -> None:
        await asyncio.sleep(0.01)
        self.version = max(self.version, price.version)


@resource
def catalogue() -> Catalogue:
    return Catalogue()


@stage(concurrency=1)
async def publish(price: Price, catalogue: Catalogue = use(catalogue)) -> None:
    await catalogue.put(price)


@stage(name="publish", concurrency=1)
async def publish_newer(price: Price, catalogue: Catalogue = use(catalogue)) -> None:
    await catalogue.put_if_newer(price)


async def build(h: Harness, size: int) -> None:
    for number in range(1, size + 1):
        await h.feed("publish", Price(version=number))
    await h.drain()
    version = h.resource(catalogue).version
    assert version == size, f"the catalogue shows version {version} of {size}"


BUG = Bug(Pipeline("prices", publish), Pipeline("prices", publish_newer), build, lambda: {catalogue: Catalogue()})
