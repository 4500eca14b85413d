"""What the status of a response means for its page. Pure."""

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
_LASTING = frozenset({501, 505})  # the only server errors for which a retry is pointless


class Kind(Enum):
    """What to do with a response that is not a failure."""

    READ = "read its body"
    EMPTY = "there is no body"
    UNCHANGED = "as it was the last time"
    MOVED = "it is elsewhere"


def kind_of(status: int, *, retry_after_seconds: float) -> Kind:
    """What to do with a response.

    Raises Reject for a page that cannot be had (it is requested once), RetryLater if the whole host asks for a pause
    (429 and 503), BrokenBody for an unrequested part of a page, and ServerFailed for a failure that may be temporary.
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
    """The target of a redirect, from raw headers: the first Location, its non-ASCII bytes as browsers read them.

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
    """The link that a redirect leads to; None if it is out of scope. Only the start of a crawl may leave its host.

    Raises Reject for a circle, for too many redirects, and for a target that is not a web address.
    """
    url = normal_url(location, link.url, drop=drop)
    if url is None or not location:
        raise Reject(f"it redirects to {location[:200]!r}, which is not a web address")
    if url == link.url or url in link.via:
        raise Reject("it redirects in a circle")
    if len(link.via) >= max_redirects:
        raise Reject(f"more than {max_redirects} redirects")
    is_start = link.depth == 0
    site = host_of(url) if is_start else link.site
    if not scope.admits(url, site=site, depth=link.depth):
        return None
    return link.model_copy(update={"url": url, "site": site, "via": (*link.via, link.url)})
