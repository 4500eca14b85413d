"""A crawler's decisions: which pages to fetch, how politely, and what a page says.

It needs `pip install 'flowq-streams[scraping]'`. Nothing here knows Redis, and everything except `Web`, which fetches
pages, is pure: values in, values out.

>>> from flowq.scraping import normal_url
>>> normal_url("/a b?utm_source=x", "http://Example.org/", drop=["utm_*"])
'http://example.org/a%20b'
"""

from __future__ import annotations

try:
    from flowq.scraping.crawler import Crawler
    from flowq.scraping.failures import (
        BrokenBody,
        ConnectionFailed,
        DnsFailed,
        FetchFailed,
        ServerFailed,
        TlsFailed,
        TooSlow,
    )
    from flowq.scraping.html import Html
    from flowq.scraping.messages import Known, Link, Page
    from flowq.scraping.robots import Rules
    from flowq.scraping.scope import Scope
    from flowq.scraping.sitemaps import BrokenSitemap, Entry
    from flowq.scraping.urls import host_of, normal_url
    from flowq.scraping.web import Limits, Web
except ModuleNotFoundError as error:
    from flowq.errors import UsageError

    if error.name is None or error.name.startswith("flowq"):
        raise
    raise UsageError(f"flowq.scraping needs {error.name}", hint="pip install 'flowq-streams[scraping]'") from error

__all__ = [
    "BrokenBody",
    "BrokenSitemap",
    "ConnectionFailed",
    "Crawler",
    "DnsFailed",
    "Entry",
    "FetchFailed",
    "Html",
    "Known",
    "Limits",
    "Link",
    "Page",
    "Rules",
    "Scope",
    "ServerFailed",
    "TlsFailed",
    "TooSlow",
    "Web",
    "host_of",
    "normal_url",
]
