"""The pipeline that runs in the storm. Every message carries its lineage, every handler writes what it was given.

A root `n` is a link. A link becomes one page; a page becomes two documents, `…/a` and `…/b`; the page of a root also
sends links back: `n/next` when n is even, and `group-…`, which ten neighbours share and which is taken once. It also
asks for a visit, `visit-…`, which two neighbours share and which is made once. The visits of a host are limited, and
one in a hundred holds its host the first time it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import zlib
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

from pydantic import BaseModel

from flowq import Context, Pipeline, Rate, Retry, RetryLater, SourceContext, resource, source, stage, use
from tests.faults import visits
from tests.faults.failpoints import arm

RETRY = Retry(attempts=50, base=0.05, max=1.0)
HOSTS = 6
VISITS = Rate(visits.PER_SECOND, by="host", burst=visits.BURST, concurrency=visits.CONCURRENCY)


class Link(BaseModel):
    path: str


class Page(BaseModel):
    path: str


class Doc(BaseModel):
    path: str
    text: str = "text " * 200  # so that a few of them are more than a small output buffer takes


class Visit(BaseModel):
    path: str
    host: str


class SideLog:
    """A file that all processes append to. A line is one write, which the kernel does not interleave."""

    def __init__(self) -> None:
        self._path = Path(os.environ["STORM_LOG"])
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._visits = visits.open_log(self._path)

    def note(self, stage: str, path: str) -> None:
        os.write(self._file, f"{stage} {path} {os.getpid()}\n".encode())

    @contextlib.contextmanager
    def visiting(self, visit: Visit) -> Generator[None]:
        """Note when a visit begins and ends."""
        visits.note(self._visits, "begins", os.getpid(), visit.host, visit.path)
        try:
            yield
        finally:
            visits.note(self._visits, "ends", os.getpid(), visit.host, visit.path)

    def is_first(self, path: str) -> bool:
        """Whether this is the first call for `path`, in any process."""
        try:
            os.close(os.open(self._path.with_name(f"{path}.asked"), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


@resource
def side_log() -> SideLog:
    return SideLog()


@source
async def seeds(ctx: SourceContext[int], n: int, seconds: float, began_at: float) -> AsyncIterator[Link]:
    """`n` roots, spread over `seconds`, each given once, however often the process of the source is killed."""
    for i in range(ctx.cursor or 0, n):
        late = began_at + seconds * i / n - time.time()
        if late > 0:
            await asyncio.sleep(late)
        yield Link(path=str(i))
        ctx.save(i + 1)


def fails_at_first(path: str) -> bool:
    """Whether this message needs a second attempt: one in 25 does."""
    return zlib.crc32(path.encode()) % 25 == 0


@stage(concurrency=8, dedup="path", retry=RETRY)
async def fetch(link: Link, ctx: Context, log: SideLog = use(side_log)) -> Page:
    log.note("fetch", link.path)
    await asyncio.sleep(0.01)
    if ctx.attempt == 1 and fails_at_first(link.path):
        raise ConnectionError("try again")
    return Page(path=link.path)


@stage(concurrency=4, retry=RETRY)
def parse(page: Page, ctx: Context, log: SideLog = use(side_log)) -> Iterator[Doc | Link | Visit]:
    log.note("parse", page.path)
    yield Doc(path=f"{page.path}/a")
    yield Doc(path=f"{page.path}/b")
    if page.path.isdecimal():
        n = int(page.path)
        yield Link(path=f"group-{n // 10}")
        yield Visit(path=f"visit-{n // 2}", host=f"host-{n // 2 % HOSTS}")
        if n % 2 == 0:
            yield Link(path=f"{n}/next")
    if ctx.attempt == 1 and fails_at_first(page.path):
        raise ConnectionError("try again")


@stage(concurrency=2, batch=20, linger=0.05, retry=RETRY)
async def store(docs: list[Doc], log: SideLog = use(side_log)) -> None:
    for doc in docs:
        log.note("store", doc.path)
    await asyncio.sleep(0.01)


@stage(concurrency=6, dedup="path", rate=VISITS, retry=RETRY)
async def visit(visit: Visit, ctx: Context, log: SideLog = use(side_log)) -> None:
    log.note("visit", visit.path)
    with log.visiting(visit):
        await asyncio.sleep(0.03)
    if zlib.crc32(visit.path.encode()) % 100 == 0 and log.is_first(visit.path):
        raise RetryLater("try the host later", after=visits.HOLD_SECONDS, hold="host")
    if ctx.attempt == 1 and fails_at_first(visit.path):
        raise ConnectionError("try again")


arm()
storm = Pipeline("storm", seeds >> fetch >> parse >> (store | fetch | visit))
