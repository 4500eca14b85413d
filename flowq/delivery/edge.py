"""The name of an edge: from which stage it leads, to which, and in which shard."""

from __future__ import annotations

from typing import NamedTuple


class Edge(NamedTuple):
    """An edge between two stages, or the inlet of one, which has no origin. Prints as its name.

    >>> Edge("fetch", "parse") == Edge.parse("fetch>parse")
    True
    >>> str(Edge("", "fetch")), Edge.parse(">fetch").is_inlet
    ('>fetch', True)
    """

    origin: str
    target: str

    @classmethod
    def parse(cls, name: str) -> Edge:
        """The edge of a name, whatever it is: of text without ">", all is the target."""
        origin, _, target = name.rpartition(">")
        return cls(origin, target)

    @property
    def is_inlet(self) -> bool:
        return not self.origin

    def __str__(self) -> str:
        return f"{self.origin}>{self.target}"


def inlet_of(stage: str) -> str:
    """The name of the edge by which messages enter a stage from outside."""
    return str(Edge("", stage))


def address(shard: int, edge: str) -> str:
    """An edge of another shard, as an output for it names it. An edge without an address is one of this shard.

    >>> address(7, "fetch>parse")
    '7/fetch>parse'
    """
    return f"{shard}/{edge}"


def parse_address(text: str) -> tuple[int | None, str]:
    """The shard of an address, None for this one, and the edge.

    >>> parse_address("7/fetch>parse"), parse_address("fetch>parse")
    ((7, 'fetch>parse'), (None, 'fetch>parse'))
    """
    shard, _, edge = text.rpartition("/")
    return int(shard) if shard else None, edge


def without_address(text: str) -> str:
    """The edge that an output is for, in whichever shard.

    >>> without_address("7/fetch>parse"), without_address("fetch>parse")
    ('fetch>parse', 'fetch>parse')
    """
    return text.rpartition("/")[2]
