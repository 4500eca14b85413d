"""The messages that a crawl sends from stage to stage."""

from __future__ import annotations

from pydantic import BaseModel

from flowq.scraping.urls import host_of


class Link(BaseModel):
    """A page to fetch.

    url: its normal URL.
    site: the host that the crawl was started on, with its port unless that is the default one.
    depth: how many links lead here from the start of the crawl, which may be a sitemap (0).
    via: the URLs of the redirects on the way (none).

    >>> Link(url="https://example.org:8443/a", site="example.org:8443").host
    'example.org:8443'
    """

    url: str
    site: str = ""
    depth: int = 0
    via: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """The key of rates, holds and robots.txt: the host, with its port unless that is the default one."""
        return host_of(self.url)


class Page(BaseModel):
    """A page as it was fetched: its decoded text, and what its headers say.

    url, site, depth: as in the `Link` that led to it.
    html: its text.
    encoding: the encoding that it had ("utf-8").
    robots: its `X-Robots-Tag` headers.
    etag, modified: its `ETag` and `Last-Modified` headers, "" if it has none.

    >>> Page(url="https://example.org/", html="<title>T</title>", etag='"1"').depth
    0
    """

    url: str
    site: str = ""
    depth: int = 0
    html: str
    encoding: str = "utf-8"
    robots: str = ""
    etag: str = ""
    modified: str = ""


_LONGEST_VALIDATOR = 1_000


class Known(BaseModel):
    """What the last crawl learned about a page, so that the next one need not read it again while it is unchanged.

    url: its URL.
    etag, modified: its `ETag` and `Last-Modified` headers, "" if it had none.
    links: the URLs that it linked to.
    """

    url: str
    etag: str = ""
    modified: str = ""
    links: list[str] = []

    @classmethod
    def of(cls, page: Page, links: list[str]) -> Known | None:
        """What to store about a page; None if its server sends neither ETag nor Last-Modified."""
        if not page.etag and not page.modified:
            return None
        return cls(url=page.url, etag=page.etag, modified=page.modified, links=links)

    @property
    def conditions(self) -> dict[str, str]:
        """The headers that request the page only if it has changed, without values that no server should get.

        >>> Known(url="http://h/", etag='W/"1"', modified="caf\u00e9").conditions
        {'If-None-Match': 'W/"1"'}
        """
        asked = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {
            name: value
            for name, value in asked.items()
            if value and value.isascii() and value.isprintable() and len(value) <= _LONGEST_VALIDATOR
        }
