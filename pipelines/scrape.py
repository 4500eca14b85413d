"""Crawls websites politely and stores a row for each page: `flowq run scrape -a url=https://…`."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

from pydantic import BaseModel

from flowq import Context, Pipeline, Rate, Retry, resource, source, stage, use
from flowq.scraping import Crawler, Known, Link, Page, Scope, Web

PER_SECOND = float(os.environ.get("SCRAPE_RATE", "200"))  # to each host; far fewer for a site that is not yours
OTHERS = dict(host.split("=") for host in os.environ.get("SCRAPE_RATES", "").split())  # "slow.example=1 my.test=500"
KEYS = {host: Rate(float(n), concurrency=8) for host, n in OTHERS.items()}
RATE = Rate(PER_SECOND, by="host", concurrency=8, keys=KEYS)
DATABASE = os.environ.get("SCRAPE_DB", "scrape.db")

crawler = Crawler(
    agent="flowq-scrape",  # put your own name here, and an address for complaints
    scope=Scope(),  # the start host only; or, for example, Scope(subdomains=True, skip=("/login*",), max_depth=5)
    obey_robots=os.environ.get("SCRAPE_ROBOTS") != "off",
)


class Doc(BaseModel):
    url: str
    title: str
    links: int
    known: Known | None = None  # lets the next crawl fetch only what has changed


@resource
async def web() -> AsyncIterator[Web]:
    async with crawler.open() as web:
        yield web


@resource
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(DATABASE, timeout=30, check_same_thread=False)) as db:
        db.execute("pragma journal_mode = wal")  # several workers may write while you read
        db.execute("create table if not exists doc (url text primary key, title text, links integer)")
        db.execute("create table if not exists known (url text primary key, page text)")
        yield db


@resource
def last_crawl(db: sqlite3.Connection = use(database)) -> Iterator[sqlite3.Connection]:
    """A separate connection for reading, so that reads do not wait for writes."""
    with closing(sqlite3.connect(DATABASE)) as db:
        yield db


@source
async def seeds(url: str = "", sitemap: str = "", web: Web = use(web)) -> AsyncIterator[Link]:
    """The start URLs or sitemaps, separated by spaces, all crawled at once. A robots.txt can stand in for a sitemap."""
    if not url and not sitemap:
        raise ValueError("no start: set -a url=https://... or -a sitemap=https://.../sitemap.xml")
    for start in url.split():
        yield crawler.start(start)
    for start in sitemap.split():
        async for link in web.sitemap(start):
            yield link


# At most 8 of 32 pages at once are from one host, so that a slow host leaves room for the others.
@stage(concurrency=32, dedup="url", rate=RATE, retry=Retry(attempts=5, base=0.5), max_bytes=1_000_000)
async def fetch(
    link: Link, ctx: Context, web: Web = use(web), db: sqlite3.Connection = use(last_crawl)
) -> list[Page | Link]:
    row = db.execute("select page from known where url = ?", [link.url]).fetchone()
    found = await web.fetch(link, Known.model_validate_json(row[0]) if row else None)
    if delay_seconds := await web.crawl_delay_seconds(link.url):
        ctx.pace(delay_seconds)  # as the host asks, across all workers
    return found


@stage(concurrency=2, max_bytes=30_000_000)
def parse(page: Page) -> Iterator[Doc | Link]:
    html = crawler.read(page)
    if html.may_be_stored:
        known = Known.of(page, html.links)
        yield Doc(url=crawler.address(page, html), title=html.title, links=html.anchors, known=known)
    yield from crawler.follow(page, html)


@stage(batch=200, linger=0.3, concurrency=1)  # one transaction at a time
def store(docs: list[Doc], db: sqlite3.Connection = use(database)) -> None:
    with db:
        db.executemany("replace into doc values (?, ?, ?)", [(d.url, d.title, d.links) for d in docs])
        known = [(d.known.url, d.known.model_dump_json()) for d in docs if d.known]
        db.executemany("replace into known values (?, ?)", known)


scrape = Pipeline("scrape", seeds >> fetch >> (parse | fetch), parse >> (store | fetch))
