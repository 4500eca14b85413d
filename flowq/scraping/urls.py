"""One spelling for each URL, so that a page is fetched once however it is linked. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import ip_address
from socket import inet_aton, inet_ntoa
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

import idna
from w3lib.html import strip_html5_whitespace
from w3lib.url import safe_url_string

LONGEST_URL = 8_000
"""Characters. Web servers reject longer URLs, and a calendar or a faulty relative link can make them grow forever."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_NAMED_SCHEME = re.compile(r"[a-zA-Z][\w+.-]*:(?!\d)")  # localhost:8080 has none
_SPECIAL_WITHOUT_SLASHES = re.compile(r"(https?):(?!//)[/\\]*", re.IGNORECASE)
_NO_HOST = re.compile(r"(?:https?:)?//(?:[?#]|$)", re.IGNORECASE)
_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")
_STRAY_PERCENT = re.compile(r"%(?![0-9a-fA-F]{2})")
_PLAIN = re.compile(r"(?!//)[\w.~/?#&=%+;,@!$'()*-]*", re.ASCII)
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")
_IS_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_PATH_PARAMETER = re.compile(r";([^;/]*)")
_EMPTY_PARAMETER = re.compile(r"(/[^/;]*);$")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def normal_url(url: str, base: str = "", *, drop: Sequence[str] = (), encoding: str = "utf-8") -> str | None:
    """The URL to fetch, in its one spelling; None if it is not a web address, as with `mailto:` or `javascript:`.

    White space around it and the fragment are removed, the host is lower case, in punycode and without a final dot,
    a default port and dot segments are removed, an empty path is "/". Percent-encoding is upper case, and letters,
    digits and "-._~" are never encoded; "%2B" stays, because many servers distinguish it from "+". The order of query
    parameters is kept, because it matters to some servers. Normalising twice changes nothing. Never raises.

    url: a URL as written in a page.
    base: the URL that a relative one starts from ("").
    drop: patterns of parameters to remove: `("utm_*", "sid")`, from the query, and from the path as in
        "/page;jsessionid=1" (none).
    encoding: the encoding of the page, in which browsers write the query of a link ("utf-8").

    >>> normal_url(" ../caf\u00e9?q=1#top ", "HTTP://Example.org:80/a/b/")
    'http://example.org/a/caf%C3%A9?q=1'
    >>> normal_url("mailto:me@example.org", "http://example.org/") is None
    True
    >>> normal_url("http://example.org?utm_source=x&id=7", drop=["utm_*"])
    'http://example.org/?id=7'
    """
    try:
        if base and _PLAIN.fullmatch(url):  # nearly every link needs no cleaning
            joined = urljoin(_cleaned(base), url)
        else:
            joined = _joined(_cleaned(url), _cleaned(base))
        return _spelled(joined.partition("#")[0], tuple(drop), encoding)
    except (ValueError, LookupError):  # a port above 65535, a broken IPv6 address, a lone surrogate
        return None


def start_url(text: str, *, drop: Sequence[str] = ()) -> str | None:
    """The normal URL of an address that people type, with or without "http://"; None if it is not a web address.

    >>> start_url("localhost:8080/a"), start_url("mailto:me@example.org")
    ('http://localhost:8080/a', None)
    """
    text = text.strip()
    return normal_url(text if _NAMED_SCHEME.match(text) else f"http://{text}", drop=drop)


def host_of(url: str) -> str:
    """The host of a URL, with its port unless that is the default one: the key of rates and robots.txt.

    >>> host_of("https://example.org/a"), host_of("http://example.org:8080/")
    ('example.org', 'example.org:8080')
    """
    return urlsplit(url).netloc.rpartition("@")[2]


@lru_cache(maxsize=20_000)  # the links of a site repeat: twenty of them lead to each page
def _spelled(joined: str, drop: tuple[str, ...], encoding: str) -> str | None:
    if len(joined) > LONGEST_URL or not joined.lower().startswith(("http://", "https://")):
        return None
    joined = _STRAY_PERCENT.sub("%25", joined)
    written = urlsplit(joined)
    host, port = _normal_host(written.hostname or ""), written.port
    user, at, _ = written.netloc.rpartition("@")
    # The host is put back afterwards: safe_url_string writes it by a standard that browsers no longer follow.
    safe = urlsplit(safe_url_string(written._replace(netloc=f"{user}{at}h").geturl(), encoding, "utf-8"))
    authority = host if port in (None, _DEFAULT_PORTS[written.scheme]) else f"{host}:{port}"
    if userinfo := safe.netloc.rpartition("@")[0].removesuffix(":"):
        authority = f"{userinfo}@{authority}"
    path = quote(_normal_escapes(safe.path), safe="/%:@!$&'()*+,;=~")
    path = _EMPTY_PARAMETER.sub(r"\1", path)  # urljoin drops it
    query = _normal_escapes(safe.query)
    if drop:
        path = _PATH_PARAMETER.sub(lambda found: "" if _is_dropped(found[1], drop) else found[0], path)
        query = "&".join(part for part in query.split("&") if not _is_dropped(part, drop))
    normal = urlunsplit((written.scheme, authority, _without_dot_segments(path), query, ""))
    return normal if len(normal) <= LONGEST_URL else None


def _normal_host(host: str) -> str:
    """The host as browsers request it (URL Standard, 3.5). Raises ValueError for an invalid one."""
    if ":" in host:
        return f"[{ip_address(host).compressed}]"
    host = unquote(host, errors="strict").lower()
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError:  # such as an emoji, which registries reject but browsers accept
            host = host.encode("idna").decode()
    host = host.removesuffix(".")
    if not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} is not a host")
    if _IS_NUMBER.fullmatch(host):
        with suppress(OSError):
            return inet_ntoa(inet_aton(host))  # 127.1 and 2130706433 are 127.0.0.1
    return host


def _normal_escapes(text: str) -> str:
    return _ESCAPE.sub(lambda found: _normal_escape(found[0]), text)


def _normal_escape(escape: str) -> str:
    character = chr(int(escape[1:], 16))
    return character if character in _UNRESERVED else escape.upper()


def _without_dot_segments(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments and segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


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
