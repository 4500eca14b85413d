"""Fetches pages like a well-behaved crawler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import date
from tempfile import SpooledTemporaryFile
from typing import IO, Self
from urllib.parse import urlsplit

import httpx2

from flowq.errors import Reject, RetryLater
from flowq.runtime.handlers.retry_after import retry_after
from flowq.scraping.answers import Kind, kind_of, location_of, redirected
from flowq.scraping.bodies import as_html, decoded, is_html, may_be_html
from flowq.scraping.cookies import Cookies
from flowq.scraping.failures import FetchFailed, ServerFailed, TooSlow, failure_of
from flowq.scraping.messages import Known, Link, Page
from flowq.scraping.robots import MOST_BYTES, Rules, rules_of_answer
from flowq.scraping.scope import Scope, links_within
from flowq.scraping.sitemaps import BrokenSitemap, Entry, entries_of, walk
from flowq.scraping.unpacking import ACCEPT_ENCODING, TooLarge, Unpacker, unpacked_file
from flowq.scraping.urls import host_of, normal_url, start_url

RULES_KEPT_SECONDS = 86_400.0
_MOST_HOSTS_KEPT = 10_000
_EARLY = 0.2  # the part of a delay by which a request may be early: pacing uses the clock of Redis
_TRIES_OF_SITEMAP = 5
_LARGEST_SITEMAP_BYTES = 1_000_000_000
_SITEMAP_SECONDS = 600.0
_IN_MEMORY_BYTES = 1_000_000
_REDIRECTS_OF_ROBOTS = 5  # the minimum of RFC 9309


@dataclass(frozen=True, slots=True)
class Limits:
    """What one page may cost.

    page_seconds: the longest time for a whole page, however slowly its bytes arrive (60 s).
    idle_seconds: the longest time to connect, and between two pieces of a response (20 s).
    page_bytes: the largest body, decompressed (10,000,000 bytes).
    redirects: how many redirects in a row are followed (5).

    >>> Limits(page_seconds=30, page_bytes=1_000_000).redirects
    5
    """

    page_seconds: float = 60.0
    idle_seconds: float = 20.0
    page_bytes: int = 10_000_000
    redirects: int = 5


class Web:
    """Fetches the pages of a crawl: robots.txt first, redirects as new links, complete bodies, within limits.

    Use it in `async with`, or open it by `Crawler.open`. Each worker process reads the robots.txt of a host once a day.

    agent: the User-Agent, also the name in robots.txt.
    scope: which URLs may be fetched.
    obey_robots: False ignores robots.txt (True).
    drop: patterns of query parameters to remove from URLs (none).
    limits: what one page may cost (`Limits()`).

    >>> Web("example-bot (+https://example.org/bot)", Scope(max_depth=3)).limits.redirects
    5
    """

    def __init__(
        self,
        agent: str,
        scope: Scope,
        *,
        obey_robots: bool = True,
        drop: tuple[str, ...] = (),
        limits: Limits | None = None,
    ) -> None:
        self.agent = agent
        self.scope = scope
        self._obeys = obey_robots
        self.drop = drop
        self.limits = limits or Limits()
        self._http = httpx2.AsyncClient(
            headers={"User-Agent": agent, "Accept-Encoding": ACCEPT_ENCODING, "Accept": "text/html, */*;q=0.5"},
            timeout=self.limits.idle_seconds,
            follow_redirects=False,
            cookies=Cookies(),
        )
        self._rules: dict[str, tuple[float, Rules]] = {}  # by URL of the robots.txt: valid until, and the rules
        self._due: dict[str, float] = {}  # when the next request to a host with a Crawl-delay may start
        self._reading: dict[str, asyncio.Task[Rules]] = {}

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for reading in self._reading.values():
            reading.cancel()
        await asyncio.gather(*self._reading.values(), return_exceptions=True)
        await self._http.aclose()

    async def fetch(self, link: Link, known: Known | None = None) -> list[Page | Link]:
        """What a link leads to: its page, or the link that it redirects to; nothing if it must not be read.

        `known` is what the last crawl learned about it: if the page has not changed since, the result is the links that
        were on it.

        Raises Reject for a page that cannot be had, RetryLater for a host that asks for a pause, and FetchFailed for a
        failure that may be temporary.
        """
        if not await self.may_fetch_now(link):
            return []
        for _ in range(self.limits.redirects + 1):
            async with self._answer(link.url, known.conditions if known else None) as answer:
                kind = kind_of(answer.status_code, retry_after_seconds=retry_after(answer))
                if kind is not Kind.MOVED:
                    return await self._found(link, kind, answer, known)
                back = self._where_a_cookie_is_wanted(link, answer)
                if back is None:
                    location = location_of(answer.headers.raw)
                    target = redirected(link, location, self.scope, max_redirects=self.limits.redirects, drop=self.drop)
                    return [target] if target is not None else []
            link = link.model_copy(update={"url": back})
        raise Reject("it redirects in a circle, even with its cookies")

    async def _found(self, link: Link, kind: Kind, answer: httpx2.Response, known: Known | None) -> list[Page | Link]:
        if kind is Kind.READ:
            return await self._page(link, answer)
        if kind is not Kind.UNCHANGED:
            return []
        if known is None:
            raise ServerFailed("HTTP 304, in response to an unconditional request")
        return [*links_within(self.scope, known.links, site=link.site or link.host, depth=link.depth + 1)]

    def _where_a_cookie_is_wanted(self, link: Link, answer: httpx2.Response) -> str | None:
        """The URL to request again at once: a server that sets a cookie and redirects back wants that cookie.

        As a new link it would be a duplicate, and another worker would not have the cookie.
        """
        if "set-cookie" not in answer.headers:
            return None
        target = normal_url(location_of(answer.headers.raw), link.url, drop=self.drop)
        return target if target in (link.url, *link.via) else None

    async def sitemap(self, url: str, *, since: date | None = None) -> AsyncIterator[Link]:
        """Links to the pages that a sitemap lists, one by one, however large it is.

        `url` is a sitemap, an index of sitemaps or a text file of URLs, compressed or not, or a robots.txt that lists
        sitemaps. `since` skips pages whose `<lastmod>` is before that day.

        Raises BrokenSitemap, FetchFailed or Reject for a sitemap that cannot be read, after all others have been read.
        """
        start = start_url(url) or url
        site = host_of(start)
        async for entry in walk(start, self._sitemap_entries, since=since):
            page = normal_url(entry.url, start, drop=self.drop)
            if page is None:
                continue
            # Sitemaps of example.org often name pages of www.example.org.
            same = host_of(page).removeprefix("www.") == site.removeprefix("www.")
            # depth=1, because only the start of a crawl may redirect to another host.
            link = Link(url=page, site=host_of(page) if same else site, depth=1)
            if self.scope.admits(page, site=link.site, depth=1):
                yield link

    async def _sitemap_entries(self, url: str) -> AsyncIterator[Entry]:
        """The entries of one sitemap. If its download fails, it is repeated; the last attempt is read as far as it got.

        It is downloaded first, because a crawl reads entries for hours, and no server keeps a connection that long.
        """
        if urlsplit(url).path == "/robots.txt":
            for sitemap in (await self.rules(url)).sitemaps:
                yield Entry(normal_url(sitemap, url) or sitemap, is_index=True)
            return
        with SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
            failure = await self._download(url, file)
            file.seek(0)
            try:
                for entry in entries_of(file):
                    yield entry
            except BrokenSitemap as error:
                raise failure or error from error
        if failure is not None:
            raise failure

    async def _download(self, url: str, file: IO[bytes]) -> Exception | None:
        """Write a sitemap to a file, decompressed. Returns the error of the last attempt if none was complete."""
        for attempt in range(1, _TRIES_OF_SITEMAP + 1):
            file.seek(0)
            file.truncate()
            try:
                await self._download_once(url, file)
            except (FetchFailed, RetryLater) as error:
                if attempt == _TRIES_OF_SITEMAP:
                    return error
                await asyncio.sleep(error.after if isinstance(error, RetryLater) else 2.0 ** (attempt - 1))
            else:
                break
        return None

    async def _download_once(self, url: str, file: IO[bytes]) -> None:
        for _ in range(self.limits.redirects + 1):
            async with self._answer(url, seconds=_SITEMAP_SECONDS) as answer:
                location = normal_url(location_of(answer.headers.raw), url)
                if answer.is_redirect and location is not None:
                    url = location
                    continue
                if kind_of(answer.status_code, retry_after_seconds=retry_after(answer)) is not Kind.READ:
                    raise Reject(f"HTTP {answer.status_code}")
                try:
                    packing = answer.headers.get("content-encoding", "")
                    async for piece in unpacked_file(answer.aiter_raw(), packing, max_bytes=_LARGEST_SITEMAP_BYTES):
                        file.write(piece)
                except TooLarge as error:
                    raise Reject(str(error)) from error
                return
        raise Reject(f"more than {self.limits.redirects} redirects")

    async def crawl_delay_seconds(self, url: str) -> float:
        """The Crawl-delay for the host of a URL, in seconds, for `ctx.pace()`; 0 if there is none."""
        return (await self.rules(url)).crawl_delay_seconds(self.agent) if self._obeys else 0.0

    async def may_fetch_now(self, link: Link) -> bool:
        """Whether robots.txt allows this crawler to fetch a page.

        Raises RetryLater if the last request to the host was too recent: before its Crawl-delay is known, many links of
        a host may arrive at once. Also raises what `rules` raises.
        """
        if not self._obeys:
            return True
        rules = await self.rules(link.url)
        if not rules.allow(link.url, agent=self.agent):
            return False
        if delay_seconds := rules.crawl_delay_seconds(self.agent):
            now, due = time.monotonic(), self._due.get(link.host, 0.0)
            if due - now > _EARLY * delay_seconds:
                asked = f"robots.txt asks for {delay_seconds:g} s between requests"
                raise RetryLater(asked, after=due - now, hold="host")
            if len(self._due) >= _MOST_HOSTS_KEPT:
                self._due.clear()
            self._due[link.host] = now + delay_seconds
        return True

    async def rules(self, url: str) -> Rules:
        """The robots.txt of the host of a URL. Raises RetryLater and FetchFailed if it cannot be read."""
        source = f"{urlsplit(url).scheme}://{host_of(url)}/robots.txt"
        until, rules = self._rules.get(source, (0.0, None))
        if rules is not None and time.monotonic() < until:
            return rules
        reading = self._reading.get(source)
        if reading is None:  # many links of a new host may arrive at once: they share one request, and its failure
            reading = self._reading[source] = asyncio.create_task(self._read_rules(source))
            reading.add_done_callback(lambda done: self._has_read(source, done))
        return await asyncio.shield(reading)

    def _has_read(self, source: str, reading: asyncio.Task[Rules]) -> None:
        del self._reading[source]
        if reading.cancelled() or reading.exception() is not None:
            return
        self._rules.pop(source, None)
        self._rules[source] = time.monotonic() + RULES_KEPT_SECONDS, reading.result()
        if len(self._rules) > _MOST_HOSTS_KEPT:
            del self._rules[next(iter(self._rules))]

    async def _read_rules(self, url: str) -> Rules:
        for _ in range(_REDIRECTS_OF_ROBOTS + 1):
            async with self._answer(url) as answer:
                location = normal_url(location_of(answer.headers.raw), url)
                if answer.is_redirect and location is not None:
                    url = location
                    continue
                body = await self._start_of(answer) if answer.is_success else b""
                return rules_of_answer(answer.status_code, body, retry_after_seconds=retry_after(answer))
        return Rules()  # a chain of redirects counts as no robots.txt

    async def _start_of(self, answer: httpx2.Response) -> bytes:
        body = bytearray()
        unpacker = Unpacker(answer.headers.get("content-encoding", ""), max_bytes=2 * MOST_BYTES)
        with suppress(TooLarge):
            async for data in answer.aiter_raw():
                for piece in unpacker.unpack(data):
                    body += piece
                if len(body) > MOST_BYTES:
                    return bytes(body)
            unpacker.finish()
        return bytes(body)

    async def _page(self, link: Link, answer: httpx2.Response) -> list[Page | Link]:
        headers = answer.headers
        content_type = headers.get("content-type", "")
        if not may_be_html(content_type):
            return []
        body = await self._body(answer)
        if not is_html(content_type, body):
            return []
        html, encoding = decoded(body, content_type)
        return [
            Page(
                url=link.url,
                site=link.site or link.host,
                depth=link.depth,
                html=as_html(html, content_type),
                encoding=encoding,
                robots=", ".join(headers.get_list("x-robots-tag")),
                etag=headers.get("etag", ""),
                modified=headers.get("last-modified", ""),
            )
        ]

    async def _body(self, answer: httpx2.Response) -> bytes:
        unpacker = Unpacker(answer.headers.get("content-encoding", ""), max_bytes=self.limits.page_bytes)
        body: list[bytes] = []
        try:
            async for data in answer.aiter_raw():
                body.extend(unpacker.unpack(data))
        except TooLarge as error:
            raise Reject(str(error)) from error
        unpacker.finish()
        return b"".join(body)

    @asynccontextmanager
    async def _answer(
        self, url: str, headers: Mapping[str, str] | None = None, *, seconds: float | None = None
    ) -> AsyncGenerator[httpx2.Response]:
        """The response to a request, complete within `seconds`, by default the limit for a page."""
        seconds = self.limits.page_seconds if seconds is None else seconds
        try:
            async with asyncio.timeout(seconds), self._http.stream("GET", url, headers=headers) as answer:
                yield answer
        except TimeoutError as error:
            raise TooSlow(f"no complete response within {seconds:g} s") from error
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError) as error:
            raise Reject(str(error)) from error
        except (httpx2.HTTPError, OSError) as error:
            raise failure_of(error) from error
