"""What a crawl sends from stage to stage."""

from __future__ import annotations

from pydantic import BaseModel

from flowq.scraping.urls import host_of


class Link(BaseModel):
    """A page to fetch.

    `site` is the host that the crawl is about, `depth` how many links lead here from its start, which may be a
    sitemap, `via` the URLs of the redirects on the way.
    """

    url: str
    site: str = ""
    depth: int = 0
    via: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """What rates, holds and robots.txt go by: the host, with its port unless that is the default one."""
        return host_of(self.url)


class Page(BaseModel):
    """A page as it was fetched: decoded, and with what its headers said."""

    url: str
    site: str = ""
    depth: int = 0
    html: str
    encoding: str = "utf-8"
    robots: str = ""  # X-Robots-Tag
    etag: str = ""
    modified: str = ""  # Last-Modified


_LONGEST_VALIDATOR = 1_000


class Known(BaseModel):
    """What the last crawl learnt of a page, so that the next one need not read it again while it is unchanged."""

    url: str
    etag: str = ""
    modified: str = ""
    links: list[str] = []

    @classmethod
    def of(cls, page: Page, links: list[str]) -> Known | None:
        """What to keep of a page; None if its server gives neither ETag nor Last-Modified."""
        if not page.etag and not page.modified:
            return None
        return cls(url=page.url, etag=page.etag, modified=page.modified, links=links)

    @property
    def conditions(self) -> dict[str, str]:
        """The headers that ask for the page only if it has changed, without those that no server should be sent.

        >>> Known(url="http://h/", etag='W/"1"', modified="caf\u00e9").conditions
        {'If-None-Match': 'W/"1"'}
        """
        asked = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {
            name: value
            for name, value in asked.items()
            if value and value.isascii() and value.isprintable() and len(value) <= _LONGEST_VALIDATOR
        }
