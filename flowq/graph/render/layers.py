"""The columns of a drawing: which stage is in which, and in what order, so that few edges cross."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import fmean

from flowq.graph.compilation.plan import Plan

_SWEEPS = 6
_Columns = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Layers:
    """Columns from left to right, each from top to bottom.

    An edge that skips columns has a bend in each of them: a place that keeps the cards clear of it. `chains` lists the
    places that each forward edge joins: its origin, its bends, its target.
    """

    columns: tuple[tuple[str, ...], ...]
    chains: Mapping[str, tuple[str, ...]]

    @property
    def bends(self) -> frozenset[str]:
        """The places that are not cards."""
        return frozenset(place for chain in self.chains.values() for place in chain[1:-1])

    @property
    def rank(self) -> Mapping[str, int]:
        """The column of each place."""
        return {place: rank for rank, column in enumerate(self.columns) for place in column}

    def links(self) -> list[tuple[str, str]]:
        """The pairs of places in neighbouring columns that an edge joins."""
        return [pair for chain in self.chains.values() for pair in pairwise(chain)]


def layered(plan: Plan) -> Layers:
    """Put each stage one column to the right of the last stage that feeds it; feedback does not count."""
    ranks = _ranks(plan)
    columns: list[list[str]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    for stage in plan.stages:
        columns[ranks[stage.name]].append(stage.name)
    chains: dict[str, tuple[str, ...]] = {}
    for edge in plan.edges:
        if not edge.is_inlet and not edge.feedback:
            bends = {rank: f"{edge.name}>{rank}" for rank in range(ranks[edge.origin] + 1, ranks[edge.target])}
            for rank, bend in bends.items():
                columns[rank].append(bend)
            chains[edge.name] = (edge.origin, *bends.values(), edge.target)
    layers = Layers(tuple(map(tuple, columns)), chains)
    return Layers(_untangled(layers.columns, layers.links()), chains)


def _ranks(plan: Plan) -> dict[str, int]:
    """The column of each stage: the longest path to it. A source is just before the first stage that it feeds."""
    import networkx as nx  # only here: a process that draws nothing need not import it

    forward: nx.DiGraph[str] = nx.DiGraph()
    forward.add_nodes_from(stage.name for stage in plan.stages)
    forward.add_edges_from((edge.origin, edge.target) for edge in plan.edges if not edge.is_inlet and not edge.feedback)
    generations = enumerate(nx.topological_generations(forward))
    ranks = {name: rank for rank, names in generations for name in names}
    for name in plan.stage_by_name:
        if not forward.in_degree(name):
            ranks[name] = min((ranks[target] for target in forward.successors(name)), default=1) - 1
    return ranks


def _untangled(columns: _Columns, links: list[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """The barycenter rule: sort each column by the mean position of its neighbours, keep the best."""
    best = order = [list(column) for column in columns]
    fewest = _crossings(best, links)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        order = _sorted_by_neighbours(order, links, rightwards=sweep % 2 == 0)
        if (crossings := _crossings(order, links)) < fewest:
            best, fewest = order, crossings
    return tuple(map(tuple, best))


def _sorted_by_neighbours(columns: _Columns, links: list[tuple[str, str]], *, rightwards: bool) -> list[list[str]]:
    neighbours: dict[str, list[str]] = {}
    for left, right in links:
        place, neighbour = (right, left) if rightwards else (left, right)
        neighbours.setdefault(place, []).append(neighbour)
    order = [list(column) for column in columns]
    position = {place: float(row) for column in order for row, place in enumerate(column)}
    for column in order if rightwards else reversed(order):
        column.sort(key=lambda place: fmean(position[neighbour] for neighbour in neighbours.get(place, [place])))
        position |= {place: float(row) for row, place in enumerate(column)}
    return order


def _crossings(columns: _Columns, links: list[tuple[str, str]]) -> int:
    row = {place: row for column in columns for row, place in enumerate(column)}
    rank = {place: rank for rank, column in enumerate(columns) for place in column}
    between: dict[int, list[tuple[int, int]]] = {}
    for left, right in links:
        between.setdefault(rank[left], []).append((row[left], row[right]))
    return sum((a - c) * (b - d) < 0 for gap in between.values() for (a, b), (c, d) in combinations(gap, 2))
