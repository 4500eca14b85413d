"""Decides by the path alone which faults the site server shows before it serves a page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self, get_args
from zlib import crc32

from examples.scraping.sites import Site

Fault = Literal["429", "503", "slow", "cut", "loop"]
ALL: tuple[Fault, ...] = get_args(Fault)


class FaultPlan:
    """The faults of one site, the same in every run.

    `429` answers the first request of every 17th path, `503` the first two of every 23rd; a path that is
    both gets one of each. One page each is `slow` once, `cut` in the middle of its first body, and a redirect
    `loop` for ever. The CRC-32 of a path decides, so that the faults of a site are predictable.

    >>> plan = FaultPlan(["429", "503"], pages=[])
    >>> [plan.faults_of(path) for path in ("/17.html", "/18.html", "/4.html", "/1.html")]
    [('429',), ('503', '503'), ('429', '503'), ()]
    >>> [plan.fault("/17.html", hit) for hit in range(3)]
    ['429', None, None]
    """

    def __init__(self, kinds: Iterable[Fault], pages: Iterable[str]) -> None:
        self._kinds = frozenset(kinds)
        calm = sorted((page for page in pages if not _throttled(page)), key=_checksum)
        once: tuple[Fault, ...] = ("slow", "cut", "loop")
        self._single = {page: fault for page, fault in zip(calm, once, strict=False) if fault in self._kinds}

    @classmethod
    def of(cls, site: Site, kinds: Iterable[Fault]) -> Self:
        """The plan for a site. Its start page is never slow, cut or a loop."""
        return cls(kinds, (page for page in site.pages() if page != site.start))

    def faults_of(self, path: str) -> tuple[Fault, ...]:
        """The faults of the first requests of a path, in order; later requests get the page."""
        single = self._single.get(path)
        faults = [single] if single else _throttled(path)
        return tuple(fault for fault in faults if fault in self._kinds)

    def fault(self, path: str, hit: int) -> Fault | None:
        """The fault of request number `hit` of a path, counted from 0."""
        faults = self.faults_of(path)
        if faults == ("loop",):
            return "loop"
        return faults[hit] if hit < len(faults) else None


def _checksum(path: str) -> int:
    return crc32(path.encode())


def _throttled(path: str) -> list[Fault]:
    """A path in both classes gets 429 first, then one 503."""
    faults: list[Fault] = []
    if _checksum(path) % 17 == 0:
        faults.append("429")
    while _checksum(path) % 23 == 0 and len(faults) < 2:
        faults.append("503")
    return faults
