"""Computes what a crawl of a site must find by walking its files, with the standard library alone."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

from examples.scraping.faults import ALL, Fault, FaultPlan
from examples.scraping.server import CIRCLE, robots_txt, site_arguments
from examples.scraping.sites import Site, SiteUnavailable, is_html, site


@dataclass(slots=True)
class Expected:
    """The outcome of a crawl, by URL.

    A page that leaves an `<a>` open is in `unclosed` too: browsers and HTML5 parsers repeat that link in the elements
    that follow, so the count of its links here is only a minimum.
    """

    pages: dict[str, int] = field(default_factory=dict[str, int])  # the rows to be stored: URL -> hrefs
    broken: set[str] = field(default_factory=set[str])  # 404: a dead letter each
    looped: set[str] = field(default_factory=set[str])  # where a redirect loop closes: a dead letter each
    other: set[str] = field(default_factory=set[str])  # fetched, but not HTML: filtered
    blocked: set[str] = field(default_factory=set[str])  # forbidden by robots.txt: filtered, never requested
    unclosed: set[str] = field(default_factory=set[str])
    unique: int = 0  # distinct URLs found, including the start page: what enters the fetching stage
    followed: int = 0  # links and redirects to the same host, each time they occur
    redirects: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])

    @property
    def rows(self) -> int:
        """Pages to be stored."""
        return len(self.pages)

    @property
    def links(self) -> int:
        """The total number of hrefs on all pages."""
        return sum(self.pages.values())

    @property
    def duplicates(self) -> int:
        """Links whose URL was already known. `unique` includes the start page, to which no link was followed."""
        return self.followed - (self.unique - 1)

    @property
    def dead(self) -> int:
        """Dead letters of the fetching stage."""
        return len(self.broken) + len(self.looped)

    @property
    def retries(self) -> int:
        """Requests that have to be sent again."""
        return self.faults["429"] + self.faults["503"] + self.faults["cut"]

    @property
    def requests(self) -> int:
        """What the server counts if its own faults are the only ones. It does not count its redirect loop."""
        return self.unique - len(self.blocked) - len(CIRCLE) * len(self.looped) + self.retries

    def numbers(self) -> dict[str, Any]:
        """All counts, for people and for JSON."""
        return {
            "rows": self.rows,
            "links": self.links,
            "unique": self.unique,
            "followed": self.followed,
            "duplicates": self.duplicates,
            "dead": self.dead,
            "retries": self.retries,
            "requests": self.requests,
            "redirects": self.redirects,
            "broken": len(self.broken),
            "looped": len(self.looped),
            "other": len(self.other),
            "blocked": len(self.blocked),
            "unclosed": len(self.unclosed),
            "faults": {kind: self.faults[kind] for kind in ALL},
        }

    def differences(self, stored: Mapping[str, int]) -> list[str]:
        """The errors in the rows of a crawl (URL -> links), one line each; empty if everything is correct."""
        found = [f"missing: {url}" for url in sorted(self.pages.keys() - stored.keys())]
        found += [f"not expected: {url}" for url in sorted(stored.keys() - self.pages.keys())]
        for url in sorted(self.pages.keys() & stored.keys()):
            least, links = self.pages[url], stored[url]
            if links < least or (links > least and url not in self.unclosed):
                found.append(f"{url}: {links} links stored, {least} on the page")
        return found


def expected(
    pages: Site, *, url: str = "http://site.test", faults: Iterable[Fault] = (), robots: str | None = None
) -> Expected:
    """Walk a site from its start page as a crawler would, without a network.

    `url` is any URL on the server, `faults` are the kinds that it shows, `robots` is the text of its robots.txt (None:
    the site's own, if it has one).
    """
    own = pages.root / "robots.txt"
    if robots is None:
        robots = own.read_text("utf-8", "replace") if own.is_file() else ""
    rules = RobotFileParser()
    rules.parse(robots.splitlines())
    walk = _Walk(pages, FaultPlan.of(pages, faults))
    start = urljoin(url, pages.start)
    seen, waiting = {start}, deque([start])
    while waiting:
        address = waiting.popleft()
        if not rules.can_fetch("*", address):
            walk.outcome.blocked.add(address)
            continue
        for link in walk.visit(address):
            walk.outcome.followed += 1
            if link not in seen:
                seen.add(link)
                waiting.append(link)
    walk.outcome.unique = len(seen)
    return walk.outcome


class _Walk:
    """Visits one URL after another and records the outcome."""

    def __init__(self, pages: Site, plan: FaultPlan) -> None:
        self.outcome = Expected()
        self._root = pages.root
        self._plan = plan
        self._asked: set[str] = set()

    def visit(self, url: str) -> list[str]:
        """Record the outcome of a request. Returns the links to follow from there, or the redirect."""
        path = unquote(urlsplit(url).path)
        file = self._root / path.lstrip("/")
        if path == CIRCLE[1]:
            self.outcome.looped.add(url)
            return []
        if path == CIRCLE[0] or "loop" in self._faults(url):
            self.outcome.redirects += 1
            return [urljoin(url, CIRCLE[path == CIRCLE[0]])]
        if file.is_dir() and not path.endswith("/"):
            self.outcome.redirects += 1
            return [url + "/"]
        if file.is_dir():
            file /= "index.html"
        if not file.is_file():
            self.outcome.broken.add(url)
            return []
        if not is_html(file.name):
            self.outcome.other.add(url)
            return []
        return self._read(url, file.read_bytes())

    def _faults(self, url: str) -> tuple[Fault, ...]:
        """The faults of a path, counted once: two spellings of a path share its faults."""
        origin = urljoin(url, "/")[:-1]
        path = unquote(url.removeprefix(origin))
        faults = self._plan.faults_of(path)
        if path not in self._asked:
            self._asked.add(path)
            self.outcome.faults.update(faults)
        return faults

    def _read(self, url: str, body: bytes) -> list[str]:
        html = _Anchors()
        html.feed(_decoded(body))
        html.close()
        self.outcome.pages[url] = len(html.hrefs)
        if html.unclosed:
            self.outcome.unclosed.add(url)
        links = [_absolute(url, href) for href in html.hrefs + html.areas]
        return [link for link in links if link and urlsplit(link).netloc == urlsplit(url).netloc]


class _Anchors(HTMLParser):
    """Collects the hrefs of all `<a>`, in order, and those of the areas of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.areas: list[str] = []
        self.unclosed = False
        self._inside: list[str] | None = None  # the tags opened since an <a href>, while that is open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "area":
            self.areas += [value or "" for name, value in attrs if name == "href"][:1]
        if tag != "a":
            if self._inside is not None:
                self._inside.append(tag)
            return
        self.unclosed |= self._inside is not None
        hrefs = [value or "" for name, value in attrs if name == "href"]
        self.hrefs += hrefs[:1]
        self._inside = [] if hrefs else None

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._inside = None
        elif self._inside is not None:
            self.unclosed |= tag not in self._inside


def _absolute(base: str, href: str) -> str | None:
    try:
        url = urldefrag(urljoin(base, href.strip().replace("\\", "/"))).url
        return quote(url, safe="%/:?&=+,;~!$'()*@[]") if urlsplit(url).scheme in ("http", "https") else None
    except ValueError:  # such as http://[
        return None


def _decoded(body: bytes) -> str:
    declared = re.search(rb"<meta[^>]+charset\s*=\s*[\"']?([\w-]+)", body[:4096], re.IGNORECASE)
    encoding = declared[1].decode().lower() if declared else "utf-8"
    # by the WHATWG encoding standard, Latin-1 means Windows-1252
    return body.decode("cp1252" if encoding in ("iso-8859-1", "latin-1") else encoding, errors="replace")


def main() -> int:
    """Print the expected numbers of the site named on the command line as JSON."""
    parser = argparse.ArgumentParser(prog="python -m examples.scraping.oracle", description=__doc__)
    site_arguments(parser)
    options = parser.parse_args()
    robots = robots_txt(options.disallow) if options.disallow else None
    try:
        outcome = expected(site(options.site), faults=options.faults, robots=robots)
    except SiteUnavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"site": options.site} | outcome.numbers(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
