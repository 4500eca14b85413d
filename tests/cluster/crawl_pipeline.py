"""The pipeline that crawls the synthetic site. Every handler writes down what it was given, in a file of its process.

What it does is set by variables: see `Terms`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from flowq import Pipeline, Rate, Retry, SourceContext, resource, source, stage, use
from tests.cluster.site import Site

STAGES = ("discover", "fetch", "parse", "store")
_KEEP = 10_000_000  # all that was settled stays in Redis, so that it can be counted there
_RETRY = Retry(attempts=50, base=0.05, max=1.0)


@dataclass(frozen=True)
class Terms:
    """How a crawl is run, as variables of its processes say."""

    pages: int = 200_000
    seed: int = 1
    shards: int = 1
    rate: float = 0.0  # pages of a host in a second; 0: no limit
    fetch_seconds: float = 0.0  # until all troubles are over: they must find the crawl at work
    ledger: Path = field(default_factory=Path)

    @classmethod
    def of_environment(cls) -> Terms:
        get = os.environ.get
        return cls(
            pages=int(get("CRAWL_PAGES", "2000")),
            seed=int(get("CRAWL_SEED", "1")),
            shards=int(get("CRAWL_SHARDS", "1")),
            rate=float(get("CRAWL_RATE", "0")),
            fetch_seconds=float(get("CRAWL_FETCH_SECONDS", "0")),
            ledger=Path(get("CRAWL_LEDGER", ".")),
        )

    @property
    def calm(self) -> Path:
        """A file that exists once all troubles are over."""
        return self.ledger / "calm"

    def variables(self) -> dict[str, str]:
        return {
            "CRAWL_PAGES": str(self.pages),
            "CRAWL_SEED": str(self.seed),
            "CRAWL_SHARDS": str(self.shards),
            "CRAWL_RATE": str(self.rate),
            "CRAWL_FETCH_SECONDS": str(self.fetch_seconds),
            "CRAWL_LEDGER": str(self.ledger),
        }


TERMS = Terms.of_environment()
SITE = Site(TERMS.pages, TERMS.seed)


class Link(BaseModel):
    url: int


class Request(BaseModel):
    url: int
    host: str


class Page(BaseModel):
    url: int


class Doc(BaseModel):
    url: int


class Ledger:
    """A file of this process. A line is one write, so that a process that is killed leaves whole lines."""

    def __init__(self) -> None:
        self._file, self._starts = (
            os.open(TERMS.ledger / f"{os.getpid()}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for kind in ("ledger", "starts")
        )

    def note(self, stage: str, *pages: int) -> None:
        os.write(self._file, "".join(f"{stage} {page}\n" for page in pages).encode())

    def note_start(self, host: str) -> None:
        """At which moment, by a clock that all processes of this machine share."""
        os.write(self._starts, f"{host} {time.monotonic()}\n".encode())


@resource
def ledger() -> Ledger:
    return Ledger()


@source
async def seeds(ctx: SourceContext[int]) -> AsyncIterator[Link]:
    """Each page that the crawl begins with, once, however often the process of the source is killed."""
    for i in range(ctx.cursor or 0, len(SITE.seeds)):
        yield Link(url=SITE.seeds[i])
        ctx.save(i + 1)


@stage(concurrency=10, dedup="url", keep=_KEEP, retry=_RETRY)
async def discover(link: Link, noted: Ledger = use(ledger)) -> Request:
    noted.note("discover", link.url)
    return Request(url=link.url, host=SITE.host(link.url))


@stage(concurrency=50, place="host", keep=_KEEP, retry=_RETRY)
async def fetch(request: Request, noted: Ledger = use(ledger)) -> Page:
    if TERMS.rate:
        noted.note_start(request.host)
    noted.note("fetch", request.url)
    if TERMS.fetch_seconds and not TERMS.calm.exists():
        await asyncio.sleep(TERMS.fetch_seconds)  # the work of this stage, not a wait for something
    return Page(url=request.url)


@stage(concurrency=10, keep=_KEEP, retry=_RETRY)
async def parse(page: Page, noted: Ledger = use(ledger)) -> list[Doc | Link]:
    noted.note("parse", page.url)
    return [Doc(url=page.url), *(Link(url=url) for url in SITE.links(page.url))]


@stage(concurrency=4, batch=50, linger=0.02, place="url", keep=_KEEP, retry=_RETRY)
async def store(docs: list[Doc], noted: Ledger = use(ledger)) -> None:
    noted.note("store", *(doc.url for doc in docs))


fetching = fetch.options(rate=Rate(TERMS.rate, by="host")) if TERMS.rate else fetch
crawl = Pipeline("crawl", seeds >> discover >> fetching >> parse >> (store | discover), shards=TERMS.shards)
