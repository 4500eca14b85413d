"""Reads sitemaps (sitemaps.org) piece by piece."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import IO, cast
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

from w3lib.html import strip_html5_whitespace

from flowq.errors import Reject, RetryLater
from flowq.scraping.failures import FetchFailed

MOST_SITEMAPS = 50_000
"""How many sitemaps an index may list, according to the protocol."""
_ROOTS = ("urlset", "sitemapindex", "rss", "feed")  # the protocol accepts feeds as sitemaps
_LINKS = {"url": "loc", "sitemap": "loc", "item": "link", "entry": "link"}
_CHANGES = {"url": "lastmod", "sitemap": "lastmod", "item": "pubdate", "entry": "updated"}
_STRAY_AMPERSAND = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos|#[0-9]+|#x[0-9a-fA-F]+);)")
_UNFINISHED = re.compile(rb"&[#\w]{0,9}\Z")
_LONGEST_LINE = 1 << 16
_PIECE_BYTES = 1 << 16
_DEEPEST, _MOST_CHILDREN, _LARGEST_PART = 100, 10_000, 10_000_000  # limits of everything that is not an entry


class BrokenSitemap(Exception):
    """A sitemap that is not valid XML from some point on. The entries before it were yielded."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A page that a sitemap lists, or with `is_index` another sitemap. `modified` is its `<lastmod>` as written."""

    url: str
    modified: str = ""
    is_index: bool = False


@dataclass(slots=True)
class SitemapReader:
    """Parses one sitemap, XML or a text file of URLs, piece by piece, in bounded memory.

    >>> reader = SitemapReader()
    >>> list(reader.feed(b"<urlset><url><loc> http://h/a </loc></url><url><loc>http://h/b</loc></url></urlset>"))
    [Entry(url='http://h/a', modified='', is_index=False), Entry(url='http://h/b', modified='', is_index=False)]
    """

    _parser: XMLPullParser[Element] | None = None
    _start: bytes = b""
    _line: bytes = b""
    _is_text: bool = False
    _is_repaired: bool = True  # except in UTF-16, and with entities of its own
    _is_done: bool = False
    _n_silent_bytes: int = 0
    _held: bytes = b""
    _open: list[Element] = field(default_factory=list[Element])

    def feed(self, data: bytes) -> Iterator[Entry]:
        """The entries that are complete with these bytes. Raises BrokenSitemap."""
        if self._parser is None and not self._is_text:
            self._start = (self._start + data).lstrip(b"\xef\xbb\xbf \t\r\n")
            if len(self._start) < 2:
                return
            data, self._start = self._start, b""
            if data.startswith((b"<", b"\xff\xfe", b"\xfe\xff")):
                self._parser = XMLPullParser(events=("start", "end"))
                self._is_repaired = data.startswith(b"<") and data[1] != 0
            else:
                self._is_text = True
        yield from self._lines(data) if self._parser is None else self._elements(self._parser, data)

    def finish(self) -> Iterator[Entry]:
        """The rest of the entries. Raises BrokenSitemap if the sitemap is incomplete."""
        if self._parser is not None:
            try:
                self._parser.feed(self._held)
                self._parser.close()
            except ParseError as error:
                if self._is_done:  # what follows does not matter
                    return
                raise BrokenSitemap(f"the sitemap ends too early: {error}") from error
        else:
            yield from self._lines(self._start + b"\n")

    def _lines(self, data: bytes) -> Iterator[Entry]:
        *lines, self._line = (self._line + data).splitlines(keepends=True) or [b""]
        if self._line.endswith((b"\n", b"\r")):
            lines, self._line = [*lines, self._line], b""
        if len(self._line) > _LONGEST_LINE:
            raise BrokenSitemap("the sitemap is neither XML nor a list of addresses")
        for line in lines:
            url = line.decode("utf-8", "replace").strip()
            if url and not url.lower().startswith(("http://", "https://")):  # an error message, say
                raise BrokenSitemap(f"the sitemap is neither XML nor a list of addresses: {url[:100]!r}")
            if url:
                yield Entry(url)

    def _elements(self, parser: XMLPullParser[Element], data: bytes) -> Iterator[Entry]:
        try:
            parser.feed(self._repaired(data))
            for event, element in cast("Iterator[tuple[str, Element]]", parser.read_events()):
                self._n_silent_bytes = 0
                if event == "start":
                    self._begin(element)
                else:
                    yield from self._end(element)
        except ParseError as error:
            if not self._is_done:
                raise BrokenSitemap(f"the sitemap is not valid XML: {error}") from error
        self._n_silent_bytes += len(data)
        if self._n_silent_bytes > _LARGEST_PART:
            raise BrokenSitemap("the sitemap has an element that is far too large")

    def _begin(self, element: Element) -> None:
        if not self._open and _local(element) not in _ROOTS:
            raise BrokenSitemap(f"<{_local(element)}> is not a sitemap")
        self._open.append(element)
        if len(self._open) > _DEEPEST:
            raise BrokenSitemap("it is nested too deeply to be a sitemap")

    def _end(self, element: Element) -> Iterator[Entry]:
        self._open.pop()
        self._is_done = not self._open
        kind = _local(element)
        if kind in _LINKS and (url := _text_of(element, _LINKS[kind])):
            yield Entry(url, _text_of(element, _CHANGES[kind]), is_index=kind == "sitemap")
        if self._open and kind in _LINKS:
            self._open[-1].clear()  # the tree must not grow with the file
        elif self._open and len(self._open[-1]) > _MOST_CHILDREN:
            raise BrokenSitemap(f"more than {_MOST_CHILDREN:,} <{kind}> in a row are not a sitemap")

    def _repaired(self, data: bytes) -> bytes:
        """The next bytes with stray "&" escaped: in most broken sitemaps, those in URLs are the fault."""
        data, self._held = self._held + data, b""
        self._is_repaired = self._is_repaired and b"<!DOCTYPE" not in data
        if not self._is_repaired:
            return data
        if unfinished := _UNFINISHED.search(data):
            data, self._held = data[: unfinished.start()], data[unfinished.start() :]
        return data if b"<![CDATA[" in data else _STRAY_AMPERSAND.sub(b"&amp;", data)


def entries_of(file: IO[bytes]) -> Iterator[Entry]:
    """The entries of a downloaded sitemap. Raises BrokenSitemap."""
    reader = SitemapReader()
    while data := file.read(_PIECE_BYTES):
        yield from reader.feed(data)
    yield from reader.finish()


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2].lower()


def _text_of(element: Element, name: str) -> str:
    for child in element:
        if _local(child) == name and child.get("rel", "alternate") == "alternate":
            return strip_html5_whitespace(child.text or child.get("href") or "")
    return ""


def changed_since(modified: str, since: date | None) -> bool:
    """Whether a page may have changed since a day, according to its `<lastmod>`; True if it has none.

    >>> changed_since("2026-11-02T10:00:00Z", date(2026, 11, 3)), changed_since("soon", date(2026, 11, 3))
    (False, True)
    """
    if since is None or not modified:
        return True
    try:
        return datetime.fromisoformat(modified).date() >= since
    except ValueError:
        return True


async def walk(
    url: str, read: Callable[[str], AsyncIterator[Entry]], *, since: date | None = None
) -> AsyncIterator[Entry]:
    """The pages of a sitemap, and of the sitemaps that it lists. Each sitemap is read once.

    A sitemap that cannot be read does not stop the others from being read: its error is raised after them.
    """
    waiting, known, failures = deque([url]), {url}, list[Exception]()
    while waiting:
        source = waiting.popleft()
        try:
            async for entry in read(source):
                if not changed_since(entry.modified, since):
                    continue
                if not entry.is_index:
                    yield entry
                elif entry.url not in known and len(known) < MOST_SITEMAPS:
                    known.add(entry.url)
                    waiting.append(entry.url)
        except (BrokenSitemap, FetchFailed, Reject, RetryLater) as error:
            error.add_note(f"in {source}")
            failures.append(error)
    if failures:
        raise failures[0]
