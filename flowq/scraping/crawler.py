"""The settings of a crawler, and its decisions about pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from flowq.errors import Reject
from flowq.scraping.html import Html
from flowq.scraping.messages import Link, Page
from flowq.scraping.scope import Scope, links_within
from flowq.scraping.urls import host_of, start_url
from flowq.scraping.web import Limits, Web


@dataclass(frozen=True, slots=True)
class Crawler:
    """How a crawl behaves. `open()` opens a `Web`, which fetches its pages.

    agent: the User-Agent, also the name in robots.txt.
    scope: which URLs may be fetched (the host that the crawl was started on).
    obey_robots: False ignores robots.txt, robots meta tags, `X-Robots-Tag` and `rel="nofollow"` (True).
    drop: patterns of query parameters that do not distinguish pages: `("utm_*",)` (none).
    limits: what one page may cost (`Limits()`).

    >>> crawler = Crawler("example-bot (+https://example.org/bot)", scope=Scope(max_depth=3))
    >>> page = Page(url="http://h/", site="h", html="<title>T</title><a href=/a>A</a><a href=//x.test/>X</a>")
    >>> [link.url for link in crawler.follow(page, crawler.read(page))]
    ['http://h/a']
    """

    agent: str
    scope: Scope = field(default_factory=Scope)
    obey_robots: bool = True
    drop: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Web]:
        """A `Web`, which fetches pages; for `async with`."""
        async with Web(
            self.agent, self.scope, obey_robots=self.obey_robots, drop=tuple(self.drop), limits=self.limits
        ) as web:
            yield web

    def start(self, url: str) -> Link:
        """The link with which a crawl starts: the host of `url` is its site. Raises Reject if it is not a web address.

        >>> Crawler("bot").start(" Example.ORG ").url
        'http://example.org/'
        """
        normal = start_url(url, drop=self.drop)
        if normal is None:
            raise Reject(f"{url.strip()!r} is not the address of a web page: write https://host/path")
        return Link(url=normal, site=host_of(normal))

    def read(self, page: Page) -> Html:
        """The parsed page. Raises Reject for a page that is nested too deeply to be parsed."""
        return Html(
            page.html, page.url, encoding=page.encoding, robots=page.robots, agent=self.agent,
            obey_robots=self.obey_robots, drop=tuple(self.drop),
        )  # fmt: skip

    def address(self, page: Page, html: Html) -> str:
        """The URL under which to store a page: its canonical URL if that is in the scope, else its own.

        So a page with several URLs is stored once.
        """
        canonical = html.canonical
        return canonical if self.scope.admits(canonical, site=page.site) else page.url

    def follow(self, page: Page, html: Html) -> list[Link]:
        """The links of a page that are in the scope."""
        return links_within(self.scope, html.links, site=page.site, depth=page.depth + 1)
