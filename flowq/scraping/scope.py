"""Which URLs a crawl may fetch: one decision, for links and redirects alike. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from urllib.parse import urlsplit

from flowq.scraping.messages import Link
from flowq.scraping.urls import host_of

_LONGEST_REPEATED = 5  # segments of a path


@dataclass(frozen=True, slots=True)
class Scope:
    """The part of the web that a crawl stays in; by default, the host that it was started on.

    Patterns have the wildcards "*", "?" and "[...]". Those of `only` and `skip` are matched against path and query.

    subdomains: True admits the subdomains of the host that the crawl was started on, with or without "www." (False).
    hosts: patterns of other hosts: `("*.example.org",)` (none).
    only: admit only paths that match one of these patterns (all).
    skip: admit no path that matches one of these patterns: `("/login*", "*?print=1")` (none).
    max_depth: how many links away from the start a page may be (no limit).
    max_repeats: how often the same part of a path may follow itself, because a faulty relative link makes
        "/a/b/a/b/a/b/..." forever; None for no limit (4).

    >>> scope = Scope(subdomains=True, skip=("/private/*",))
    >>> scope.admits("https://docs.example.org/a", site="www.example.org")
    True
    >>> scope.admits("https://example.org/private/a", site="www.example.org")
    False
    """

    subdomains: bool = False
    hosts: Sequence[str] = ()
    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    max_depth: int | None = None
    max_repeats: int | None = 4

    def admits(self, url: str, *, site: str, depth: int = 0) -> bool:
        """Whether a normal URL may be fetched in a crawl of the host `site`."""
        if self.max_depth is not None and depth > self.max_depth:
            return False
        return self._admits_host(host_of(url), site) and self._admits_path(url)

    def _admits_host(self, host: str, site: str) -> bool:
        if host == site or any(fnmatchcase(host, pattern) for pattern in self.hosts):
            return True
        parent = site.removeprefix("www.")
        return self.subdomains and (host == parent or host.endswith("." + parent))

    def _is_trap(self, path: str) -> bool:
        most = self.max_repeats
        return most is not None and path.count("/") > most and bool(_repeated_more_than(most).search(path))

    def _admits_path(self, url: str) -> bool:
        parts = urlsplit(url)
        if self._is_trap(parts.path):
            return False
        if not self.only and not self.skip:
            return True
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        if self.only and not any(fnmatchcase(path, pattern) for pattern in self.only):
            return False
        return not any(fnmatchcase(path, pattern) for pattern in self.skip)


@lru_cache
def _repeated_more_than(times: int) -> re.Pattern[str]:
    return re.compile(rf"((?:/[^/]+){{1,{_LONGEST_REPEATED}}}?)\1{{{times},}}(?=/|$)")


def links_within(scope: Scope, urls: Iterable[str], *, site: str, depth: int) -> list[Link]:
    """Links to those of the normal URLs `urls` that a crawl of `site` may fetch."""
    return [Link(url=url, site=site, depth=depth) for url in urls if scope.admits(url, site=site, depth=depth)]
