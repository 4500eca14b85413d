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


class Crossing(NamedTuple):
    """An edge of a shard; of this one if `shard` is None.

    >>> parse_address("7/fetch>parse"), parse_address("fetch>parse")
    (Crossing(shard=7, edge='fetch>parse'), Crossing(shard=None, edge='fetch>parse'))
    """

    shard: int | None
    edge: str


def address(shard: int, edge: str) -> str:
    """The name by which an output asks for an edge of another shard.

    >>> address(7, "fetch>parse")
    '7/fetch>parse'
    """
    return f"{shard}/{edge}"


def parse_address(text: str) -> Crossing:
    """The shard and the edge that an output asks for. Names of stages have no "/"."""
    shard, slash, edge = text.partition("/")
    return Crossing(int(shard), edge) if slash else Crossing(None, text)


def is_crossing(edge: str) -> bool:
    """Whether an output that asks for this edge goes to another shard."""
    return "/" in edge
