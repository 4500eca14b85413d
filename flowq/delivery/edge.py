"""The name of an edge: from which stage it leads, and to which."""

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
