"""The graph of a pipeline as a small picture: boxes and lines without words, for the list of all pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowq.graph.compilation.plan import Plan
from flowq.graph.render.edge_paths import routed
from flowq.graph.render.geometry import Box, Size, arranged
from flowq.graph.render.labels import drawn_edges
from flowq.graph.render.layers import layered

_CARD, _LABEL = Size(130, 92), Size(0, 0)
_MARGIN = 10.0


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """Boxes by stage, and the SVG path data of the edges forth and back; `extent` holds all of it."""

    boxes: Mapping[str, Box]
    forth: Sequence[str]
    back: Sequence[str]
    extent: Box


def thumbnail(plan: Plan) -> Thumbnail:
    """Lay out a plan with cards of one size."""
    labels = {edge.name: _LABEL for edge in drawn_edges(plan)}
    layers = layered(plan)
    places = arranged(plan, layers, {stage.name: _CARD for stage in plan.stages}, labels)
    lines = routed(plan, layers, places, labels)
    drawn = [*places.values(), *(wall for line in lines.values() for wall in line.walls)]
    left, top = min(box.left for box in drawn) - _MARGIN, min(box.top for box in drawn) - _MARGIN
    right, bottom = max(box.right for box in drawn) + _MARGIN, max(box.bottom for box in drawn) + _MARGIN
    return Thumbnail(
        boxes={stage.name: places[stage.name] for stage in plan.stages},
        forth=[lines[edge.name].path for edge in drawn_edges(plan) if not edge.feedback],
        back=[lines[edge.name].path for edge in drawn_edges(plan) if edge.feedback],
        extent=Box(left, top, right - left, bottom - top),
    )
