"""Crawls a website politely and stores a row for each page: `flowq run scrape -a url=https://…`."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urldefrag, urljoin, urlsplit

import aiosqlite
import httpx2
from protego import Protego
from pydantic import BaseModel
from selectolax.lexbor import LexborHTMLParser
from w3lib.encoding import html_body_declared_encoding

from flowq import Pipeline, Rate, Reject, Retry, RetryLater, resource, retry_after, source, stage, use

AGENT = "flowq-scrape"  # put your own name here, and an address for complaints
PER_SECOND = float(os.environ.get("SCRAPE_RATE", "200"))  # to each host; far fewer when it is not yours
OTHERS = dict(host.split("=") for host in os.environ.get("SCRAPE_RATES", "").split())  # "slow.example=1 my.test=500"
RATE = Rate(PER_SECOND, by="host", keys={host: Rate(float(n)) for host, n in OTHERS.items()})
OBEY_ROBOTS = os.environ.get("SCRAPE_ROBOTS") != "off"
DATABASE = os.environ.get("SCRAPE_DB", "scrape.db")


class Link(BaseModel):
    url: str
    depth: int = 0

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc


class Page(BaseModel):
    url: str
    depth: int
    html: str


class Doc(BaseModel):
    url: str
    title: str
    links: int


@resource
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        headers={"User-Agent": AGENT},
        timeout=20,
        follow_redirects=True,
        max_redirects=5,
        default_encoding=lambda body: html_body_declared_encoding(body) or "utf-8",
    ) as http:
        yield http


@resource
async def database() -> AsyncIterator[aiosqlite.Connection]:
    async with aiosqlite.connect(DATABASE, timeout=30) as db:
        await db.execute("pragma journal_mode = wal")  # several workers may write, and you may look meanwhile
        await db.execute("create table if not exists doc (url text primary key, title text, links integer)")
        yield db


class Robots:
    """The robots.txt of each host, read once. While a host cannot tell its rules, nothing else is fetched."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self._rules: dict[str, Protego] = {}
        self._reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def allow(self, url: str) -> bool:
        source = urljoin(url, "/robots.txt")
        async with self._reading[source]:
            if source not in self._rules:
                r = await self._http.get(source)
                if r.is_server_error:
                    r.raise_for_status()
                self._rules[source] = Protego.parse(r.text if r.is_success else "")
        return self._rules[source].can_fetch(url, AGENT)


@resource
def robots(http: httpx2.AsyncClient = use(client)) -> Robots:
    return Robots(http)


@source
async def seeds(url: str) -> AsyncIterator[Link]:
    """Where to begin; several sites, separated by spaces, are crawled at once."""
    for start in url.split():
        yield Link(url=urldefrag(start).url)


@stage(concurrency=8, dedup="url", rate=RATE, retry=Retry(attempts=5, base=0.5))
async def fetch(link: Link, http: httpx2.AsyncClient = use(client), robots: Robots = use(robots)) -> Page | None:
    if OBEY_ROBOTS and not await robots.allow(link.url):
        return None
    try:
        r = await http.get(link.url)
    except (httpx2.TooManyRedirects, httpx2.InvalidURL) as error:
        raise Reject(str(error)) from error
    if r.status_code in (429, 503):
        raise RetryLater(f"HTTP {r.status_code}", after=retry_after(r), hold="host")
    if r.status_code in (404, 410):
        raise Reject(f"HTTP {r.status_code}")
    r.raise_for_status()
    if "html" not in r.headers.get("content-type", ""):
        return None
    return Page(url=str(r.url) if r.history else link.url, depth=link.depth, html=r.text)


@stage(concurrency=2, max_bytes=5_000_000)
def parse(page: Page) -> Iterator[Doc | Link]:
    tree = LexborHTMLParser(page.html)
    title = tree.css_first("title")
    links = [absolute(page.url, a.attributes["href"] or "") for a in tree.css("a[href]")]
    yield Doc(url=page.url, title=title.text(strip=True) if title else "", links=len(links))
    site = urlsplit(page.url)[:2]
    for link in links:
        if urlsplit(link)[:2] == site:
            yield Link(url=link, depth=page.depth + 1)


@stage(batch=200, linger=0.3, concurrency=1)  # one connection, one transaction at a time
async def store(docs: list[Doc], db: aiosqlite.Connection = use(database)) -> None:
    await db.executemany("replace into doc values (?, ?, ?)", [(d.url, d.title, d.links) for d in docs])
    await db.commit()


def absolute(base: str, href: str) -> str:
    try:
        return urldefrag(urljoin(base, href)).url
    except ValueError:  # such as http://[
        return ""


scrape = Pipeline("scrape", seeds >> fetch >> parse >> (store | fetch))
