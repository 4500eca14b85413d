"""The bug: a handler catches every error and goes on, so a message whose service was busy is gone without a trace."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from flowq import Pipeline, Retry, resource, stage, use
from flowq.testing.pipeline_harness import Harness
from tests.testing.planted.bug import Bug


class Photo(BaseModel):
    id: int


class Busy(Exception):
    """The service works on another photo."""


class Printer:
    """Prints one photo at a time."""

    def __init__(self) -> None:
        self.printed: set[int] = set()
        self._is_busy = False

    async def print(self, photo: Photo) -> None:
        if self._is_busy:
            raise Busy
        self._is_busy = True
        try:
            await asyncio.sleep(0.001)
            self.printed.add(photo.id)
        finally:
            self._is_busy = False


@resource
def printer() -> Printer:
    return Printer()


@stage(concurrency=1)
async def develop(photo: Photo, printer: Printer = use(printer)) -> None:
    try:
        await printer.print(photo)
    except Exception:  # noqa: BLE001  (that is the bug)
        return


@stage(name="develop", concurrency=1, retry=Retry(attempts=30))
async def develop_or_retry(photo: Photo, printer: Printer = use(printer)) -> None:
    await printer.print(photo)


async def build(h: Harness, size: int) -> None:
    for number in range(size):
        await h.feed("develop", Photo(id=number))
    await h.drain()
    missing = sorted(set(range(size)) - h.resource(printer).printed)
    assert not missing, f"photo {missing[0]} was not printed"


BUG = Bug(Pipeline("photos", develop), Pipeline("photos", develop_or_retry), build, lambda: {printer: Printer()})
