"""robots.txt (RFC 9309): what its response means, and what it allows. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from protego import Protego
from w3lib.encoding import read_bom

from flowq.errors import RetryLater

MOST_BYTES = 500 * 1024
"""How much of a robots.txt is read: the minimum of the RFC (2.5)."""
LONGEST_CRAWL_DELAY_SECONDS = 3600.0
_HTML = re.compile(r"\s*<(!doctype|html|head|body)", re.IGNORECASE)
_WORD = re.compile(r"[\w-]+")
_LINE_BREAKS = str.maketrans({"\r": "\n", **dict.fromkeys("\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", " ")})
# Protego matches "my" with the group of "my-crawler", but not "my-crawler/2.0" with that of "my-crawler/1.0". In the
# RFC names have no versions, and are equal or not (2.2.1). So each name gets an end mark, here and in queries.
_AGENT_LINE = re.compile(r"^([ \t]*user-?agent[ \t]*:[ \t]*)([\w-]+)(?:/[^\s#]*)?", re.IGNORECASE | re.MULTILINE)
_END = "$"
_ADDRESS = re.compile(r"\+?(?:https?://|www\.)\S+|\S+@\S+")


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one robots.txt, for all crawlers. Without a file, everything is allowed.

    >>> rules = Rules.parsed(b"User-agent: *\\nDisallow: /private\\nCrawl-delay: 2")
    >>> rules.allow("http://h/private/x", agent="my-crawler"), rules.crawl_delay_seconds("my-crawler")
    (False, 2.0)
    """

    sitemaps: tuple[str, ...] = ()
    _parser: Protego = field(default_factory=lambda: Protego.parse(""), repr=False)

    @classmethod
    def parsed(cls, body: bytes) -> Rules:
        """The rules in a file: its first 500 kB, in UTF-8, UTF-16 or Latin-1. A page of HTML has none."""
        text = _text(body[:MOST_BYTES])
        if len(body) > MOST_BYTES:
            text = text[: text.rfind("\n") + 1]  # half a rule may forbid or allow far more than the whole
        if _HTML.match(text):
            return cls()
        text = _AGENT_LINE.sub(rf"\1\2{_END}", text.translate(_LINE_BREAKS).lstrip("\ufeff"))
        parser = Protego.parse(text)
        return cls(tuple(parser.sitemaps), parser)

    def allow(self, url: str, *, agent: str) -> bool:
        """Whether `agent` may fetch a URL."""
        return self._parser.can_fetch(url, _names_in(agent))

    def crawl_delay_seconds(self, agent: str) -> float:
        """The shortest time between two requests in seconds, at most an hour; 0 if the file does not set one."""
        delay = self._parser.crawl_delay(_names_in(agent)) or 0.0
        rate = self._parser.request_rate(_names_in(agent))
        if rate is not None and rate.requests > 0:
            delay = max(delay, rate.seconds / rate.requests)
        return min(max(delay, 0.0), LONGEST_CRAWL_DELAY_SECONDS)


def rules_of_answer(status: int, body: bytes, *, retry_after_seconds: float) -> Rules:
    """The rules that a response to the request for robots.txt means.

    A missing file (4xx) means no rules. Raises RetryLater if the host cannot send it now (429 and 5xx): all of its
    pages wait.
    """
    if status == 429 or status >= 500:
        raise RetryLater(f"robots.txt: HTTP {status}", after=retry_after_seconds, hold="host")
    return Rules.parsed(body) if 200 <= status < 300 else Rules()


@lru_cache
def _names_in(agent: str) -> str:
    """The names in a User-Agent, as queries to Protego need them. A contact address has none."""
    return " ".join(f"{name}{_END}" for name in _WORD.findall(_ADDRESS.sub(" ", agent)))


def page_directives(*contents: str, agent: str) -> frozenset[str]:
    """What `X-Robots-Tag` headers and `<meta name="robots">` tell `agent` about a page, with "none" spelled out.

    Directives after the name of another crawler are ignored.

    >>> sorted(page_directives("noindex", "googlebot: noarchive, nofollow", agent="my-crawler"))
    ['noindex']
    >>> sorted(page_directives("none", agent="my-crawler"))
    ['nofollow', 'noindex']
    """
    return frozenset(word for content in contents for word in _directives(content, agent))


def _directives(content: str, agent: str) -> Iterable[str]:
    meant = True
    for part in content.lower().split(","):
        name, colon, rest = part.partition(":")
        if colon and name.strip() != "unavailable_after":
            if name.strip().startswith("max-"):  # max-snippet: 20 is not a crawler either
                continue
            meant, part = name.strip() in _WORD.findall(agent.lower()), rest
        word = part.strip()
        if not meant or not word:
            continue
        yield from ("noindex", "nofollow") if word == "none" else (word,)


def _text(body: bytes) -> str:
    encoding, mark = read_bom(body)
    if encoding is not None and mark is not None:
        return body[len(mark) :].decode(encoding, "replace")
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body.decode("latin-1")
