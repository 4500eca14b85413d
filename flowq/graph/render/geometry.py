"""The geometry of a drawing: a box for every card, and for every bend of an edge that passes a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean

from flowq.graph.compilation.plan import Plan
from flowq.graph.render.layers import Layers

_BEND_HEIGHT = 22.0
_ROUNDS = 60
_STIFF = 24.0  # the pull of a link that should be level: see `_pulls`

_LEAST_LOOP_HEIGHT = 26.0
_ROOM_BELOW_LOOP_LABEL = 8.0


@dataclass(frozen=True, slots=True)
class Size:
    """The size of something drawn."""

    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, y counted downwards."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def middle_x(self) -> float:
        return self.left + self.width / 2

    @property
    def middle_y(self) -> float:
        return self.top + self.height / 2

    def overlap(self, other: Box, clearance: float = 0.0) -> float:
        """The area that the two share, `other` grown by `clearance` on all sides."""
        across = min(self.right, other.right + clearance) - max(self.left, other.left - clearance)
        down = min(self.bottom, other.bottom + clearance) - max(self.top, other.top - clearance)
        return max(0.0, across) * max(0.0, down)


@dataclass(frozen=True, slots=True)
class Gaps:
    """The least distances: between the cards of a column, between columns, and from a card to a label beside it."""

    rows: float = 30.0
    columns: float = 68.0
    beside_label: float = 26.0


def loop_height(label: Size) -> float:
    """How far above its card the arc passes by which a stage feeds itself: its label must not touch the card."""
    return max(_LEAST_LOOP_HEIGHT, label.height / 2 + _ROOM_BELOW_LOOP_LABEL)


def arranged(
    plan: Plan, layers: Layers, cards: Mapping[str, Size], labels: Mapping[str, Size], gaps: Gaps = Gaps()
) -> dict[str, Box]:
    """A box for every place of `layers`; the cards of a column are equally wide.

    `cards` has the size of each stage's card, `labels` that of each edge's label.
    """
    loops = {edge.target: labels[edge.name] for edge in plan.edges if edge.origin == edge.target}
    widths = {name: size.width for name, size in cards.items()}
    for name, label in loops.items():
        widths[name] = max(widths[name], label.width + 2 * gaps.beside_label)
    heights = {
        place: cards[place].height if place in cards else _BEND_HEIGHT for column in layers.columns for place in column
    }
    above = {name: loop_height(label) + label.height for name, label in loops.items()}
    tops = _tops(layers, heights, above, gaps.rows)
    boxes: dict[str, Box] = {}
    left = 0.0
    for column, gap in zip(layers.columns, _between_columns(layers, labels, gaps), strict=True):
        width = max((widths[place] for place in column if place in widths), default=0.0)
        boxes |= {place: Box(left, tops[place], width, heights[place]) for place in column}
        left += width + gap
    return boxes


def _between_columns(layers: Layers, labels: Mapping[str, Size], gaps: Gaps) -> list[float]:
    """The gap to the right of each column: wide enough for the labels of the edges that cross no other."""
    between, rank = [gaps.columns for _ in layers.columns], layers.rank
    for name, chain in layers.chains.items():
        if len(chain) == 2:
            column = rank[chain[0]]
            between[column] = max(between[column], labels[name].width + 2 * gaps.beside_label)
    return between


def _tops(layers: Layers, heights: Mapping[str, float], above: Mapping[str, float], gap: float) -> dict[str, float]:
    """Move every place to the mean height of its neighbours, round after round, to the right and back."""
    pulls = _pulls(layers, heights)
    distances = {
        column: [
            (heights[upper] + heights[lower]) / 2 + gap + above.get(lower, 0.0) for upper, lower in pairwise(column)
        ]
        for column in layers.columns
    }
    middle: dict[str, float] = {}
    for column in layers.columns:
        middle |= zip(column, spread([0.0] * len(column), distances[column]), strict=True)
    for column in [*layers.columns, *reversed(layers.columns)] * _ROUNDS:
        wanted = [fmean([middle[other] for other in pulls[place]], pulls[place].values()) for place in column]
        middle |= zip(column, spread(wanted, distances[column]), strict=True)
    return {place: middle[place] - height / 2 for place, height in heights.items()}


def _pulls(layers: Layers, places: Iterable[str]) -> dict[str, dict[str, float]]:
    """The neighbours of each place, and how strongly each pulls at it. A place without neighbours stays where it is.

    Links that a reader follows as one line pull hard, so that they become level: those inside a long edge, and those
    between a card with no other way out and a card with no other way in.
    """
    links = layers.links()
    outward, inward = Counter(left for left, _ in links), Counter(right for _, right in links)
    bends = layers.bends
    pulls: dict[str, dict[str, float]] = {place: {} for place in places}
    for left, right in links:
        plain = (left in bends) == (right in bends)
        pulls[left][right] = pulls[right][left] = _STIFF if plain and outward[left] == inward[right] == 1 else 1.0
    return {place: found or {place: 1.0} for place, found in pulls.items()}


def spread(wanted: Sequence[float], distances: Sequence[float]) -> list[float]:
    """The positions nearest to those wanted (least squares) that keep their order and their distances.

    `distances[i]` is the least distance from number i to number i+1. Method: pool adjacent violators.

    >>> spread([0, 0, 50], [10, 10])
    [-5.0, 5.0, 50.0]
    """
    offsets = list(accumulate(distances, initial=0.0))
    pools: list[tuple[float, int]] = []  # sum and number of the wanted positions that share one shift
    for target, offset in zip(wanted, offsets, strict=False):
        total, count = target - offset, 1
        while pools and pools[-1][0] / pools[-1][1] >= total / count:
            more, others = pools.pop()
            total, count = total + more, count + others
        pools.append((total, count))
    shifts = [total / count for total, count in pools for _ in range(count)]
    return [shift + offset for shift, offset in zip(shifts, offsets, strict=False)]
