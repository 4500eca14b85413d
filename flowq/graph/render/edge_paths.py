"""The lines of a drawing: curves to the right, and arcs back that pass below all cards on their way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from flowq.graph.compilation.plan import EdgePlan, Plan
from flowq.graph.render.geometry import Box, Size, loop_height
from flowq.graph.render.layers import Layers

_CORNER = 12.0
_CHANNEL = 14.0  # from a card's side to the line that runs down beside it
_MOST_CHANNELS = 5  # beside one column; more would reach the next column, so they share the last
_PORT_STEP = 24.0
_LANE_GAP = 14.0
_FIRST_LANE_GAP = 24.0
_FROM_THE_MIDDLE = (0.5, 0.55, 0.45, 0.6, 0.4, 0.65, 0.35, 0.7, 0.3, 0.75, 0.25)

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One edge as drawn: SVG path data, where and in which direction it ends, the spots for its label (the best
    first), and what it walls off.

    `turn` is in degrees: 0 to the right, -90 upwards. The walls of an arc back are its straight pieces. A curve has
    none, because it runs between the cards.
    """

    path: str
    end: Point
    turn: int
    spots: tuple[Point, ...]
    walls: tuple[Box, ...] = ()


def routed(
    plan: Plan, layers: Layers, boxes: Mapping[str, Box], labels: Mapping[str, Size], tip: float = 0.0
) -> dict[str, Line]:
    """A line for every edge between stages: it starts on the border of a card, ends `tip` before one, crosses none."""
    back = [edge for edge in plan.edges if not edge.is_inlet and edge.feedback]
    lines = {name: _curve([boxes[place] for place in chain], tip) for name, chain in layers.chains.items()}
    lines |= {e.name: _loop(boxes[e.target], labels[e.name], tip) for e in back if e.origin == e.target}
    return lines | _Lanes(layers, boxes, labels, tip).lines([edge for edge in back if edge.origin != edge.target])


def _curve(boxes: Sequence[Box], tip: float) -> Line:
    """From the right side of the first box, straight through the bends, to the left side of the last."""
    first, last = boxes[0], boxes[-1]
    path = f"M{_xy((first.right, first.middle_y))}"
    slopes: list[Point] = []
    runs = [(box.left + box.width * t, box.middle_y) for t in _FROM_THE_MIDDLE for box in boxes[1:-1]]
    for here, there in pairwise(boxes):
        start, end = (here.right, here.middle_y), (there.left - (tip if there is last else 0), there.middle_y)
        half = (start[0] + end[0]) / 2
        path += f" C{_xy((half, start[1]))} {_xy((half, end[1]))} {_xy(end)}"
        if there is not last:
            path += f" H{_number(there.right)}"
        slopes += (_on_curve(start, end, t) for t in _FROM_THE_MIDDLE)
    return Line(path, (last.left - tip, last.middle_y), 0, (*runs, *slopes))


def _on_curve(start: Point, end: Point, t: float) -> Point:
    """The point at `t` of a cubic Bézier curve that leaves and arrives level, its handles half way."""
    half = (start[0] + end[0]) / 2
    a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
    return (a * start[0] + (b + c) * half + d * end[0], (a + b) * start[1] + (c + d) * end[1])


def _loop(card: Box, label: Size, tip: float) -> Line:
    """From a card's top, over it and back."""
    half = min(label.width / 2 + _CORNER + 8, card.width / 2 - _CORNER)
    left, right, over = card.middle_x - half, card.middle_x + half, card.top - loop_height(label)
    corners = [(right, card.top), (right, over), (left, over), (left, card.top - tip)]
    return Line(rounded(corners), corners[-1], 90, ((card.middle_x, over),), walls(corners))


class _Lanes:
    """Routes of the feedback edges: down, along a lane of their own below the cards they pass, and up."""

    def __init__(self, layers: Layers, boxes: Mapping[str, Box], labels: Mapping[str, Size], tip: float) -> None:
        self.boxes = boxes
        self.labels = labels
        self.tip = tip
        self.columns = layers.columns
        self.bends = layers.bends
        self.rank = layers.rank
        # for each lane so far: the columns that it passes below, and its lower end
        self.taken: list[tuple[range, float]] = []
        # how many lines run down beside a column so far, on its right (True) or left
        self.beside: Counter[tuple[int, bool]] = Counter()

    def lines(self, edges: Sequence[EdgePlan]) -> dict[str, Line]:
        ports = dict(self._ports(edges))
        by_span = sorted(edges, key=lambda edge: (len(self._span(edge)), self.rank[edge.target]))
        return {edge.name: self._line(edge, ports) for edge in by_span}

    def _line(self, edge: EdgePlan, ports: Mapping[tuple[str, bool], float]) -> Line:
        lane = self._lane(edge)
        corners = [
            *self._end(edge.origin, ports.get((edge.name, True)), lane, leaving=True),
            *reversed(self._end(edge.target, ports.get((edge.name, False)), lane, leaving=False)),
        ]
        ends = [point[0] for point in corners if point[1] == lane]
        low, high = min(ends), max(ends)
        spots = tuple((low + (high - low) * part, lane) for part in _FROM_THE_MIDDLE)
        turn = -90 if corners[-1][0] == corners[-2][0] else 0
        return Line(rounded(corners), corners[-1], turn, spots, walls(corners))

    def _ports(self, edges: Sequence[EdgePlan]) -> Iterator[tuple[tuple[str, bool], float]]:
        """Where on the underside of a card an edge leaves (True) or arrives, ordered against crossings.

        Lines that go left are left of lines that come from the right. The former are ordered from the shortest to the
        longest, the latter from the longest to the shortest.
        """
        at: dict[str, list[tuple[bool, int, str]]] = {}
        for edge in edges:
            span = len(self._span(edge))
            at.setdefault(edge.origin, []).append((False, span, edge.name))
            at.setdefault(edge.target, []).append((True, -span, edge.name))
        for place, ends in at.items():
            if not self._is_lowest(place):
                continue
            card = self.boxes[place]
            step = min(_PORT_STEP, (card.width - 2 * _CORNER) / max(1, len(ends) - 1))
            for number, (arriving, _, name) in enumerate(sorted(ends)):
                yield (name, not arriving), card.middle_x + (number - (len(ends) - 1) / 2) * step

    def _end(self, place: str, port: float | None, lane: float, *, leaving: bool) -> list[Point]:
        """The corners from a card to the lane: from its underside, or its side if there is a card below it."""
        card, tip = self.boxes[place], 0 if leaving else self.tip
        if port is not None:
            return [(port, card.bottom + tip), (port, lane)]
        away = _CHANNEL + min(self.beside[self.rank[place], leaving], _MOST_CHANNELS) * _CHANNEL / 2
        self.beside[self.rank[place], leaving] += 1
        side, channel = (card.right, card.right + away) if leaving else (card.left - tip, card.left - away)
        height = card.middle_y + card.height / 4  # below the middle, where the curves leave and arrive
        return [(side, height), (channel, height), (channel, lane)]

    def _lane(self, edge: EdgePlan) -> float:
        span, height = self._span(edge), self.labels[edge.name].height
        floor = max(self.boxes[place].bottom for column in span for place in self.columns[column])
        lane = floor + max(_FIRST_LANE_GAP, height / 2 + _LANE_GAP)
        for other, bottom in self.taken:
            if set(span) & set(other):
                lane = max(lane, bottom + _LANE_GAP + height / 2)
        self.taken.append((span, lane + height / 2))
        return lane

    def _span(self, edge: EdgePlan) -> range:
        low, high = sorted((self.rank[edge.origin], self.rank[edge.target]))
        return range(low, high + 1)

    def _is_lowest(self, place: str) -> bool:
        cards = [other for other in self.columns[self.rank[place]] if other not in self.bends]
        return cards[-1] == place


def rounded(corners: Sequence[Point]) -> str:
    """Path data of a line through `corners` that turns each of them in a small arc.

    >>> rounded([(0, 0), (0, 40), (60, 40)])
    'M0 0 L0 28 Q0 40 12 40 L60 40'
    """
    path = f"M{_xy(corners[0])}"
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        radius = min(_CORNER, _distance(before, corner) / 2, _distance(corner, after) / 2)
        enter, leave = _towards(corner, before, radius), _towards(corner, after, radius)
        path += f" L{_xy(enter)} Q{_xy(corner)} {_xy(leave)}"
    return path + f" L{_xy(corners[-1])}"


def walls(corners: Sequence[Point]) -> tuple[Box, ...]:
    """The pieces of a line through `corners`, each level or upright, as boxes without thickness."""
    return tuple(
        Box(min(x, to_x), min(y, to_y), abs(x - to_x), abs(y - to_y)) for (x, y), (to_x, to_y) in pairwise(corners)
    )


def _distance(one: Point, other: Point) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def _towards(start: Point, end: Point, by: float) -> Point:
    part = by / (_distance(start, end) or 1.0)
    return (start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part)


def _xy(point: Point) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    return f"{round(value, 1):g}"
