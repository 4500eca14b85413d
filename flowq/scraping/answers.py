"""What the status of an answer means for its page. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from flowq.errors import Reject, RetryLater
from flowq.scraping.failures import BrokenBody, ServerFailed
from flowq.scraping.messages import Link
from flowq.scraping.scope import Scope
from flowq.scraping.urls import host_of, normal_url

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WAIT = frozenset({429, 503})
_TRANSIENT = frozenset({408, 425})
_LASTING = frozenset({501, 505})  # the only server errors that say that asking again is of no use


class Kind(Enum):
    """What to do with an answer that is no failure."""

    READ = "read its body"
    EMPTY = "there is no body"
    UNCHANGED = "as it was the last time"
    MOVED = "it is elsewhere"


def kind_of(status: int, *, retry_after_seconds: float) -> Kind:
    """What to do with an answer.

    Raises Reject for a page that is not to be had (asked for once), RetryLater where the whole host wants to be left
    alone for a while (429 and 503), BrokenBody for a part of a page that nobody asked for, and ServerFailed for what
    may pass.
    """
    if status == 206:
        raise BrokenBody("HTTP 206: only a part of the page")
    if status in (204, 205):
        return Kind.EMPTY
    if 200 <= status < 300:
        return Kind.READ
    if status in _REDIRECTS:
        return Kind.MOVED
    if status == 304:
        return Kind.UNCHANGED
    if status in _WAIT:
        raise RetryLater(f"HTTP {status}", after=retry_after_seconds, hold="host")
    if status in _TRANSIENT or (500 <= status < 600 and status not in _LASTING):
        raise ServerFailed(f"HTTP {status}")
    raise Reject(f"HTTP {status}")


def location_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Where a redirect leads to, from raw headers: the first Location, its bytes beyond ASCII as browsers read them.

    >>> location_of([(b"Location", b"/caf\\xe9"), (b"Location", b"/other")])
    '/caf%E9'
    """
    raw = next((value for name, value in headers if name.lower() == b"location"), b"")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in raw)


def redirected(
    link: Link, location: str, scope: Scope, *, max_redirects: int, drop: tuple[str, ...] = ()
) -> Link | None:
    """The link that a redirect leads to; None where the crawl may not go. The redirect of a start may leave its host.

    Raises Reject where it leads nowhere: in a circle, on and on, or to no web address.
    """
    url = normal_url(location, link.url, drop=drop)
    if url is None or not location:
        raise Reject(f"it redirects to {location[:200]!r}, which is no web address")
    if url == link.url or url in link.via:
        raise Reject("it redirects in a circle")
    if len(link.via) >= max_redirects:
        raise Reject(f"more than {max_redirects} redirects")
    is_start = link.depth == 0
    site = host_of(url) if is_start else link.site
    if not scope.admits(url, site=site, depth=link.depth):
        return None
    return link.model_copy(update={"url": url, "site": site, "via": (*link.via, link.url)})
