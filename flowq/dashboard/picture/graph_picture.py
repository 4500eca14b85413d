"""The graph of a pipeline as SVG with slots: drawn once for a plan, filled for every page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from flowq.dashboard.live.shapes import is_large
from flowq.dashboard.picture.edge_cards import TIP, EdgeCard
from flowq.dashboard.picture.elements import rect
from flowq.dashboard.picture.slotted import Slotted
from flowq.dashboard.picture.stage_cards import StageCard
from flowq.graph.compilation.plan import Plan
from flowq.graph.render.edge_paths import Line, routed
from flowq.graph.render.geometry import Box, Gaps, arranged
from flowq.graph.render.label_spots import placed
from flowq.graph.render.labels import drawn_edges, edge_label
from flowq.graph.render.layers import layered
from flowq.printable import printable

_GAPS = Gaps(rows=48.0, columns=148.0, beside_label=16.0)
_SMALL_GAPS = Gaps(rows=14.0, columns=54.0, beside_label=5.0)
_MARGIN, _ROOM_FOR_FLAG = 10.0, 4.0


@dataclass(frozen=True, slots=True)
class GraphPicture:
    """The graph of one plan, and of a large one (`is_large`) a map of all of it.

    Sources are at the left; feedback is dashed, in lanes below what it passes. The rules are those of
    `flowq graph --format svg`: only the sizes differ.
    """

    columns: int
    graph: Slotted
    map: Slotted | None

    @classmethod
    def of(cls, plan: Plan, href: Callable[[str], str]) -> GraphPicture:
        """Draw a plan. `href` is the address of a stage."""
        small = is_large(plan)
        cards = {stage.name: StageCard(stage, href(stage.name), small) for stage in plan.stages}
        on_edges = {edge.name: EdgeCard(edge, edge_label(plan, edge), small) for edge in drawn_edges(plan)}
        sizes = {name: edge.size for name, edge in on_edges.items()}
        layers = layered(plan)
        boxes = arranged(
            plan, layers, {name: card.size for name, card in cards.items()}, sizes, _SMALL_GAPS if small else _GAPS
        )
        lines = routed(plan, layers, boxes, sizes, tip=TIP)
        spots = placed(lines, sizes, [boxes[name] for name in cards])
        view = _view([*boxes.values(), *spots.values(), *(wall for line in lines.values() for wall in line.walls)])
        label = f"Graph of {printable(plan.name)}. The table of stages has the same figures."
        root, slots = _root("graph large" if small else "graph", "graph", view), Slotted()
        root.attrib |= {"role": "group", "aria-label": label, "width": f"{view.width:g}", "height": f"{view.height:g}"}
        edges = ET.SubElement(root, "g", {"class": "edges", "aria-hidden": "true"})
        for name, edge in on_edges.items():
            edge.draw_line(edges, lines[name], slots)
        stands = ET.SubElement(root, "g", {"class": "queues", "aria-hidden": "true"})
        for name, edge in on_edges.items():
            edge.draw(stands, spots[name], slots)
        nodes = ET.SubElement(root, "g", {"class": "nodes"})
        for name, card in cards.items():
            card.draw(nodes, boxes[name], slots)
        slots.close(root)
        overview = _map({name: boxes[name] for name in cards}, lines, view) if small else None
        return cls(len(layers.columns), slots, overview)

    def graph_with(self, values: Mapping[str, str], opened: str | None) -> str:
        """The graph with these values, and with one stage marked as the one that is open."""
        markup, link = self.graph.filled(values), f'<a class="card" id="card-{opened}"'
        return markup.replace(link, f'{link} aria-current="true"') if opened else markup


def _map(cards: Mapping[str, Box], lines: Mapping[str, Line], view: Box) -> Slotted:
    """All of a large graph at a glance: only stages in trouble have a colour. The lens shows which part is visible."""
    root, slots = _root("minimap", "minimap", view), Slotted()
    root.attrib |= {"preserveAspectRatio": "xMidYMid meet", "aria-hidden": "true"}
    for line in lines.values():
        ET.SubElement(root, "path", {"d": line.path})
    for name, box in cards.items():
        slots.attributes(rect(root, "spot", box, 10), data_state=f"s.{name}.state", data_neck=f"s.{name}.neck")
    ET.SubElement(root, "rect", {"id": "lens", "rx": "8"})
    slots.close(root)
    return slots


def _root(look: str, id: str, view: Box) -> ET.Element:
    shown = f"{view.left:g} {view.top:g} {view.width:g} {view.height:g}"
    return ET.Element("svg", {"class": look, "id": id, "viewBox": shown})


def _view(drawn: list[Box]) -> Box:
    """What everything drawn fits into, with a margin."""
    left, right = min((box.left for box in drawn), default=0), max((box.right for box in drawn), default=0)
    top, bottom = min((box.top for box in drawn), default=0), max((box.bottom for box in drawn), default=0)
    across, down = right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN + _ROOM_FOR_FLAG
    return Box(round(left - _MARGIN), round(top - _MARGIN - _ROOM_FOR_FLAG), round(across), round(down))
