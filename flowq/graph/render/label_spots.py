"""Where on its line each label of a drawing stands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from flowq.graph.render.edge_paths import Line
from flowq.graph.render.geometry import Box, Size

_ROUNDS = 4
_CLEARANCE = 3.0


def placed(lines: Mapping[str, Line], sizes: Mapping[str, Size], cards: Sequence[Box]) -> dict[str, Box]:
    """A box for each label, where on its line it overlaps least with cards, arcs and other labels.

    Labels make room for each other: each moves in turn, several times.
    """
    spots = {
        name: [Box(x - size.width / 2, y - size.height / 2, size.width, size.height) for x, y in lines[name].spots]
        for name, size in sizes.items()
    }
    labels = {name: boxes[0] for name, boxes in spots.items()}
    for _ in range(_ROUNDS):
        before = dict(labels)
        for name, boxes in spots.items():
            arcs = [wall for other, line in lines.items() if other != name for wall in line.walls]
            occupied = [*cards, *arcs, *(label for other, label in labels.items() if other != name)]
            labels[name] = _freest(boxes, occupied)
        if labels == before:
            break
    return labels


def _freest(boxes: Sequence[Box], occupied: Sequence[Box]) -> Box:
    """The first of the boxes that overlap least; those after one that is free are not looked at."""
    best, least = boxes[0], math.inf
    for box in boxes:
        overlap = sum(box.overlap(other, _CLEARANCE) for other in occupied)
        if overlap < least:
            best, least = box, overlap
        if not overlap:
            break
    return best
