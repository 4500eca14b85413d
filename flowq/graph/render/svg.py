"""A plan as SVG that needs no font, script or style from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from xml.etree import ElementTree as ET

from flowq.graph.compilation.plan import EdgePlan, Plan, StagePlan
from flowq.graph.render.edge_paths import routed
from flowq.graph.render.geometry import Box, Size, arranged
from flowq.graph.render.label_spots import placed
from flowq.graph.render.labels import details, drawn_edges, edge_label, options, type_labels
from flowq.graph.render.layers import layered
from flowq.graph.render.text import clipped, pack, width, words

_MARGIN = 28.0
_TEXT_LEFT, _TEXT_RIGHT = 24.0, 16.0  # from a card's sides to its text
_NAME_LIMIT, _OPTIONS_LIMIT, _LABEL_LIMIT = 250.0, 150.0, 180.0
_NAME_STEP, _OPTIONS_STEP, _LABEL_STEP = 19.0, 16.0, 15.0
_name_width = partial(width, font_size=15.0, bold=True)
_small_width = partial(width, font_size=11.5)

_STYLE = """
.flowq text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif }
.flowq .page { fill: #f8fafc }
.flowq .box { fill: #ffffff; stroke: #d5dde7 }
.flowq .name { font-size: 15px; font-weight: 700; fill: #0f172a }
.flowq .options { font-size: 11.5px; fill: #5b6778 }
.flowq .kind { font-size: 10px; font-weight: 600; letter-spacing: .8px }
.flowq .sizes { font-size: 11.5px; font-weight: 600; text-anchor: end }
.flowq .source .accent { fill: #0f8378 }
.flowq .stage .accent { fill: #2563eb }
.flowq .sink .accent { fill: #b45309 }
.flowq .line { fill: none; stroke: #94a3b8; stroke-width: 1.6 }
.flowq .tip { fill: #94a3b8 }
.flowq .feedback .line { stroke: #9333ea; stroke-dasharray: 6 4 }
.flowq .back { fill: #9333ea }
.flowq .pill { fill: #ffffff; stroke: #d5dde7 }
.flowq .type { font-size: 11.5px; fill: #334155; text-anchor: middle }
.flowq .feedback .type { fill: #7e22ce }
@media (prefers-color-scheme: dark) {
  .flowq .page { fill: #0d1117 }
  .flowq .box, .flowq .pill { fill: #161b22; stroke: #333b45 }
  .flowq .name { fill: #e6edf3 }
  .flowq .options { fill: #9aa5b1 }
  .flowq .source .accent { fill: #2dd4bf }
  .flowq .stage .accent { fill: #79aaff }
  .flowq .sink .accent { fill: #f5a04c }
  .flowq .line { stroke: #6b7684 }
  .flowq .tip { fill: #6b7684 }
  .flowq .feedback .line { stroke: #c084fc }
  .flowq .back { fill: #c084fc }
  .flowq .type { fill: #c9d1d9 }
  .flowq .feedback .type { fill: #d8b4fe }
}
"""


def svg(plan: Plan) -> str:
    """Draw a plan from left to right: a card for each stage, a curve for each edge, feedback dashed below.

    Groups carry `data-stage` and `data-edge`, so that a page can find and colour them.
    """
    cards = {stage.name: _Card.of(stage) for stage in plan.stages}
    labels = {edge.name: _Label.of(plan, edge) for edge in drawn_edges(plan)}
    label_sizes = {name: label.size for name, label in labels.items()}
    layers = layered(plan)
    boxes = arranged(plan, layers, {name: card.size for name, card in cards.items()}, label_sizes)
    lines = routed(plan, layers, boxes, label_sizes)
    pills = placed(lines, label_sizes, [boxes[name] for name in cards])

    walls = [wall for line in lines.values() for wall in line.walls]
    root = _root(plan, _extent([*boxes.values(), *pills.values(), *walls]))
    for edge in drawn_edges(plan):
        group = ET.SubElement(root, "g", {"class": _classes("edge", edge), "data-edge": edge.name})
        tip = "url(#flowq-tip-back)" if edge.feedback else "url(#flowq-tip)"
        ET.SubElement(group, "path", {"class": "line", "d": lines[edge.name].path, "marker-end": tip})
    for name, card in cards.items():
        card.draw(root, boxes[name])
    for name, label in labels.items():
        label.draw(root, pills[name])
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


@dataclass(frozen=True, slots=True)
class _Card:
    """The texts on the card of a stage, split into the lines in which they are drawn."""

    stage: StagePlan
    name: tuple[str, ...]
    sizes: str
    options: tuple[str, ...]

    @classmethod
    def of(cls, stage: StagePlan) -> _Card:
        name = pack(words(stage.name), "", _NAME_LIMIT, _name_width)
        name = tuple(clipped(line, _NAME_LIMIT, _name_width) for line in name)
        wide = max(_OPTIONS_LIMIT, *map(_name_width, name))
        said = [f"batch {stage.batch.size}"] if stage.batch else []
        lines = pack((*said, *options(stage)), " · ", wide, _small_width)
        sizes = "" if stage.is_source else f"×{stage.concurrency}"
        return cls(stage, name, sizes, tuple(clipped(line, wide, _small_width) for line in lines))

    @property
    def size(self) -> Size:
        head = width(self.stage.kind.upper(), 11.5, bold=True) + 14 + _small_width(self.sizes, bold=True)
        text = max(head, *map(_name_width, self.name), *map(_small_width, self.options))
        height = 40 + _NAME_STEP * len(self.name) + _OPTIONS_STEP * len(self.options)
        return Size(text + _TEXT_LEFT + _TEXT_RIGHT, height)

    def draw(self, root: ET.Element, box: Box) -> None:
        stage = self.stage
        group = ET.SubElement(root, "g", {"class": f"card {stage.kind}", "data-stage": stage.name})
        ET.SubElement(group, "title").text = f"{stage.name}: {', '.join((stage.kind, *details(stage)))}"
        _add_box(group, box, 10, "box")
        bar = Box(box.left + 10, box.top + 13, 3.5, box.height - 26)
        _add_box(group, bar, 1.75, "accent")
        left, y = box.left + _TEXT_LEFT, box.top + 22
        _add_text(group, left, y, "kind accent", stage.kind.upper())
        if self.sizes:
            _add_text(group, box.right - _TEXT_RIGHT, y, "sizes accent", self.sizes)
        for line in self.name:
            y += _NAME_STEP
            _add_text(group, left, y, "name", line)
        y += 3
        for line in self.options:
            y += _OPTIONS_STEP
            _add_text(group, left, y, "options", line)


@dataclass(frozen=True, slots=True)
class _Label:
    """The message types of an edge, as the lines in the pill on it."""

    edge: EdgePlan
    title: str
    lines: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan, edge: EdgePlan) -> _Label:
        first, *others = type_labels(plan, edge)
        pieces = (f"↺ {first}" if edge.feedback else first, *others)
        lines = pack(pieces, " | ", _LABEL_LIMIT, _small_width)
        lines = tuple(clipped(line, _LABEL_LIMIT, _small_width) for line in lines)
        return cls(edge, _in_words(plan, edge), lines)

    @property
    def size(self) -> Size:
        return Size(max(map(_small_width, self.lines)) + 20, 7 + _LABEL_STEP * len(self.lines))

    def draw(self, root: ET.Element, box: Box) -> None:
        group = ET.SubElement(root, "g", {"class": _classes("label", self.edge)})
        ET.SubElement(group, "title").text = self.title
        _add_box(group, box, 11, "pill")
        for number, line in enumerate(self.lines):
            _add_text(group, box.middle_x, box.top + 15 + number * _LABEL_STEP, "type", line)


def _extent(drawn: Sequence[Box]) -> Box:
    """The box around everything drawn, with a margin."""
    left, right = min((box.left for box in drawn), default=0), max((box.right for box in drawn), default=0)
    top, bottom = min((box.top for box in drawn), default=0), max((box.bottom for box in drawn), default=0)
    return Box(left - _MARGIN, top - _MARGIN, right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN)


def _root(plan: Plan, page: Box) -> ET.Element:
    left, top, across, down = (f"{value:.0f}" for value in (page.left, page.top, page.width, page.height))
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "class": "flowq",
            "role": "img",
            "width": across,
            "height": down,
            "viewBox": f"{left} {top} {across} {down}",
        },
    )
    ET.SubElement(root, "title").text = f"Pipeline {plan.name}"
    ET.SubElement(root, "desc").text = _description(plan)
    ET.SubElement(root, "style").text = _STYLE
    definitions = ET.SubElement(root, "defs")
    for name, look in (("tip", "tip"), ("tip-back", "back")):
        marker = {"id": f"flowq-{name}", "viewBox": "0 0 9 8", "refX": "9", "refY": "4", "orient": "auto"}
        marker |= {"markerWidth": "9", "markerHeight": "8", "markerUnits": "userSpaceOnUse"}
        ET.SubElement(ET.SubElement(definitions, "marker", marker), "path", {"class": look, "d": "M0 0L9 4L0 8Z"})
    ET.SubElement(root, "rect", {"class": "page", "x": left, "y": top, "width": across, "height": down, "rx": "12"})
    return root


def _description(plan: Plan) -> str:
    """The drawing in words, for those who cannot see it."""
    stages = [f"{stage.kind} {stage.name}" for stage in plan.stages]
    edges = [_in_words(plan, edge) for edge in drawn_edges(plan)]
    return f"Stages: {', '.join(stages) or 'none'}. Edges: {'; '.join(edges) or 'none'}."


def _in_words(plan: Plan, edge: EdgePlan) -> str:
    back = " (feedback)" if edge.feedback else ""
    return f"{edge.origin} to {edge.target}: {edge_label(plan, edge)}{back}"


def _classes(name: str, edge: EdgePlan) -> str:
    return f"{name} feedback" if edge.feedback else name


def _add_box(parent: ET.Element, box: Box, radius: float, look: str) -> None:
    sides = {"x": box.left, "y": box.top, "width": box.width, "height": box.height, "rx": radius}
    ET.SubElement(parent, "rect", {"class": look} | {name: f"{value:.1f}" for name, value in sides.items()})


def _add_text(parent: ET.Element, x: float, y: float, look: str, text: str) -> None:
    ET.SubElement(parent, "text", {"class": look, "x": f"{x:.1f}", "y": f"{y:.1f}"}).text = text
