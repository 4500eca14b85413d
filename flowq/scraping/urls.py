"""One spelling for each URL, so that a page is fetched once however it is linked. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from urllib.parse import urljoin, urlsplit, urlunsplit

from w3lib.html import strip_html5_whitespace
from w3lib.url import canonicalize_url, safe_url_string

LONGEST_URL = 8_000
"""Characters. Web servers refuse longer ones, and a calendar or a faulty relative link can make them grow for ever."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_SPECIAL_WITHOUT_SLASHES = re.compile(r"(https?):(?!//)[/\\]*", re.IGNORECASE)
_NO_HOST = re.compile(r"(?:https?:)?//(?:[?#]|$)", re.IGNORECASE)
_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")
_STRAY_PERCENT = re.compile(r"%(?![0-9a-fA-F]{2})")
_PLAIN = re.compile(r"(?!//)[\w.~/?#&=%+;,@!$'()*-]*", re.ASCII)
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?|\[[0-9a-f:.]+\]")


def normal_url(url: str, base: str = "", *, drop: Sequence[str] = (), encoding: str = "utf-8") -> str | None:
    """The URL to fetch, in its one spelling; None for what is no web address, such as `mailto:` or `javascript:`.

    `base` is the URL that a relative one starts from, `encoding` that of the page (browsers write the query of a
    link in it), `drop` names query parameters to leave out, with wildcards: `("utm_*", "sid")`.

    White space around it and the fragment are dropped, the host is lower case and in punycode, a default port and
    dot segments vanish, an empty path is "/", and percent-encoding is upper case and only where it is needed. The
    order of query parameters is kept: to some servers it matters. Normalising twice changes nothing.

    >>> normal_url(" ../caf\u00e9?q=1#top ", "HTTP://Example.org:80/a/b/")
    'http://example.org/a/caf%C3%A9?q=1'
    >>> normal_url("mailto:me@example.org", "http://example.org/") is None
    True
    >>> normal_url("http://example.org?utm_source=x&id=7", drop=["utm_*"])
    'http://example.org/?id=7'
    """
    try:
        if base and _PLAIN.fullmatch(url):  # nearly every link: nothing to clean
            joined = urljoin(_cleaned(base), url)
        else:
            joined = _joined(_cleaned(url), _cleaned(base))
        return _spelled(joined.partition("#")[0], tuple(drop), encoding)
    except (ValueError, LookupError):  # a port above 65535, a broken IPv6 address, a lone surrogate
        return None


def host_of(url: str) -> str:
    """The host of a URL, with its port unless that is the default one. Rates and robots.txt go by it.

    >>> host_of("https://example.org/a"), host_of("http://example.org:8080/")
    ('example.org', 'example.org:8080')
    """
    return urlsplit(url).netloc.rpartition("@")[2]


@lru_cache(maxsize=20_000)  # the links of a site repeat: twenty of them lead to each page
def _spelled(joined: str, drop: tuple[str, ...], encoding: str) -> str | None:
    if len(joined) > LONGEST_URL or not joined.lower().startswith(("http://", "https://")):
        return None
    joined = _STRAY_PERCENT.sub("%25", joined)
    safe = urlsplit(safe_url_string(joined, encoding=encoding, path_encoding="utf-8"))
    # The path alone: of the query, canonicalize_url changes the order, and "?wsdl" into "?wsdl=".
    canonical = urlsplit(canonicalize_url(urlunsplit((safe.scheme, safe.netloc, safe.path, "", ""))))
    host = (canonical.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    if not _HOST.fullmatch(host):
        return None
    user, at, _ = canonical.netloc.rpartition("@")
    port = canonical.port
    authority = user + at + (host if port in (None, _DEFAULT_PORTS[canonical.scheme]) else f"{host}:{port}")
    query = _ESCAPE.sub(lambda found: found[0].upper(), safe.query)
    if drop:
        query = "&".join(part for part in query.split("&") if not _is_dropped(part, drop))
    normal = urlunsplit((canonical.scheme, authority, canonical.path or "/", query, ""))
    return normal if len(normal) <= LONGEST_URL else None


@lru_cache(maxsize=1_000)
def _cleaned(url: str) -> str:
    """As browsers read an attribute: no white space around it, no line breaks or tabs in it, no backslashes."""
    url = re.sub(r"[\t\n\r]", "", strip_html5_whitespace(url).strip("\x00\x0b\x1c\x1d\x1e\x1f \x7f"))
    scheme = _SCHEME.match(url)
    if scheme and scheme[0].lower() not in ("http:", "https:"):
        return url
    path = re.match(r"[^?#]*", url)
    assert path is not None  # it matches the empty text too
    return path[0].replace("\\", "/") + url[path.end() :]


def _joined(url: str, base: str) -> str:
    without_slashes = _SPECIAL_WITHOUT_SLASHES.match(url)
    if without_slashes:  # "http:page" is relative to an http page, "https:host" leaves it (URL Standard, 4.4)
        scheme, rest = without_slashes[1].lower(), url[without_slashes.end() :]
        same = urlsplit(base).scheme == scheme and without_slashes[0].rstrip("/\\") == without_slashes[0]
        url = rest if same else f"{scheme}://{rest}"
    elif re.match(r"https?:///+", url, re.IGNORECASE):
        url = re.sub(r":/+", "://", url, count=1)
    elif url.startswith("//"):
        url = "//" + url.lstrip("/")
    if _NO_HOST.match(url):
        raise ValueError("no host")
    return urljoin(base, url) if base else url


def _is_dropped(part: str, drop: Sequence[str]) -> bool:
    name = part.partition("=")[0]
    return any(fnmatchcase(name, pattern) for pattern in drop)
