"""A crawler's settings, and what it decides about pages."""

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
    """How a crawl behaves. `open()` gives what fetches its pages.

    `agent` names it to the servers, and in robots.txt. `scope` is where it may go. With `obey_robots=False` it does as
    if no robots.txt, robots meta tag, `X-Robots-Tag` or `rel="nofollow"` were there. `drop` names query parameters
    that do not tell pages apart, with wildcards: `("utm_*",)`. `limits` bound what one page may cost.

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
        """What fetches pages, while the block runs."""
        async with Web(
            self.agent, self.scope, obey_robots=self.obey_robots, drop=tuple(self.drop), limits=self.limits
        ) as web:
            yield web

    def start(self, url: str) -> Link:
        """Where a crawl begins: the host of `url` is its site. Raises Reject if that is no web address.

        >>> Crawler("bot").start(" Example.ORG ").url
        'http://example.org/'
        """
        normal = start_url(url, drop=self.drop)
        if normal is None:
            raise Reject(f"{url.strip()!r} is not the address of a web page: write https://host/path")
        return Link(url=normal, site=host_of(normal))

    def read(self, page: Page) -> Html:
        """A page, parsed. Raises Reject for one that no parser should be given."""
        return Html(
            page.html, page.url, encoding=page.encoding, robots=page.robots, agent=self.agent,
            obey_robots=self.obey_robots, drop=tuple(self.drop),
        )  # fmt: skip

    def address(self, page: Page, html: Html) -> str:
        """The URL to store a page under: the canonical one that it names, if that is within the crawl, else its own.

        Pages that are the same under several URLs become one row so.
        """
        canonical = html.canonical
        return canonical if self.scope.admits(canonical, site=page.site) else page.url

    def follow(self, page: Page, html: Html) -> list[Link]:
        """The links of a page that the crawl may go to."""
        return links_within(self.scope, html.links, site=page.site, depth=page.depth + 1)
