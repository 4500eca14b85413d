"""A web of any size that needs no server: what links to what follows from a seed by arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

_MASK = (1 << 64) - 1
_MOST_LINKS = 6
_PAGES_OF_A_HOST = 50


def mixed(number: int) -> int:
    """A number of 64 bits that looks as if it had nothing to do with this one: the finalizer of splitmix64."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


@dataclass(frozen=True)
class Site:
    """So many pages, of which not all can be reached. Half of the links stay within their host."""

    pages: int
    seed: int = 1

    def links(self, page: int) -> list[int]:
        """What a page links to, in order; a page may link to another twice, or to itself."""
        chance = mixed(self.seed * 1_000_003 + page)
        return [self._target(page, mixed(chance + i)) for i in range(chance % _MOST_LINKS)]

    def _target(self, page: int, chance: int) -> int:
        if chance & 1:
            return chance // 2 % self.pages
        first = page - page % _PAGES_OF_A_HOST
        return min(first + chance // 2 % _PAGES_OF_A_HOST, self.pages - 1)

    def host(self, page: int) -> str:
        return f"host-{page // _PAGES_OF_A_HOST}"

    @cached_property
    def seeds(self) -> list[int]:
        """The pages where a crawl begins."""
        return sorted({mixed(self.seed + i) % self.pages for i in range(20)})

    @cached_property
    def reachable(self) -> set[int]:
        """The oracle: a breadth-first search."""
        found, row = set(self.seeds), self.seeds
        while row:
            row = [
                page for page in dict.fromkeys(link for page in row for link in self.links(page)) if page not in found
            ]
            found.update(row)
        return found

    @property
    def repeated(self) -> int:
        """How many links a crawl finds that it has found before."""
        return len(self.seeds) + sum(len(self.links(page)) for page in self.reachable) - len(self.reachable)
