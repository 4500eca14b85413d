"""An edge: its line, and the card on it with its figures, or in a large graph with one number."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree as ET

from flowq.dashboard.live.shapes import METER_WIDTH, small_in
from flowq.dashboard.picture.elements import group, rect, text
from flowq.dashboard.picture.slotted import Slotted
from flowq.graph.compilation.plan import EdgePlan
from flowq.graph.render.edge_paths import Line
from flowq.graph.render.geometry import Box, Size
from flowq.wording.quantities import size as size_words

EDGE_CARD, SMALL_EDGE_CARD = Size(116.0, 92.0), Size(44.0, 18.0)
TIP = 9.0  # from the end of a line to the card
_TIP_SHAPE = "M-3-6.5 8 0-3 6.5Z"
_LEFT, _RIGHT = 10.0, 106.0
_ROOM_FOR_TYPE = 58.0


@dataclass(frozen=True, slots=True)
class EdgeCard:
    """One edge, drawn from the slots `e.EDGE.*`. `label` has the types that it carries."""

    edge: EdgePlan
    label: str
    is_small: bool

    @property
    def title(self) -> str:
        """The edge in words, with its limits."""
        limits = [f"{self.edge.maxsize:,} messages"] if self.edge.maxsize else []
        limits += [size_words(self.edge.maxsize_bytes)] if self.edge.maxsize_bytes else []
        back = " (feedback)" if self.edge.feedback else ""
        limit = f"at most {' or '.join(limits)}" if limits else "no limit"
        return f"{self.edge.origin} to {self.edge.target}: {self.label}{back}, {limit}"

    @property
    def size(self) -> Size:
        """How large the card on the line is."""
        return SMALL_EDGE_CARD if self.is_small else EDGE_CARD

    def draw_line(self, parent: ET.Element, line: Line, slots: Slotted) -> None:
        """Add the line, thicker with more messages, and its tip: a separate shape, so that it can have a colour."""
        name, back = self.edge.name, " back" if self.edge.feedback else ""
        path = ET.SubElement(parent, "path", {"class": f"line{back}", "d": line.path})
        path.attrib |= {"data-from": self.edge.origin, "data-to": self.edge.target}
        slots.attributes(path, stroke_width=f"e.{name}.stroke", data_level=f"e.{name}.level")
        turned = f" rotate({line.turn})" if line.turn else ""
        moved = f"translate({line.end[0]:g} {line.end[1]:g}){turned}"
        tip = ET.SubElement(parent, "path", {"class": f"tip{back}", "d": _TIP_SHAPE, "transform": moved})
        slots.attributes(tip, data_level=f"e.{name}.level")

    def draw(self, parent: ET.Element, box: Box, slots: Slotted) -> None:
        """Add the card, at its place."""
        name, back = self.edge.name, " back" if self.edge.feedback else ""
        queue = group(parent, f"queue{back}", box)
        slots.attributes(queue, data_level=f"e.{name}.level")
        ET.SubElement(queue, "title").text = self.title
        rect(queue, "pill", Box(0, 0, box.width, box.height), 9 if self.is_small else 8)
        if self.is_small:
            slots.text(text(queue, "val mid", box.width / 2, 13), f"e.{name}.n")
            return
        sign = "↺ " if self.edge.feedback else ""
        text(queue, "type", _LEFT, 17, small_in(_ROOM_FOR_TYPE, f"{sign}{self.label}"))
        slots.text(text(queue, "val end fill", _RIGHT, 17), f"e.{name}.fill")
        rect(queue, "track", Box(_LEFT, 23, METER_WIDTH, 4), 2)
        slots.attributes(rect(queue, "meter", Box(_LEFT, 23, 0, 4), 2), width=f"e.{name}.meter")
        for number, label in enumerate(("waiting", "delayed", "oldest")):
            y = 42 + 15 * number
            text(queue, "lab", _LEFT, y, label)
            slots.text(text(queue, "val end", _RIGHT, y), f"e.{name}.{label}")
        slots.text(text(queue, "fore", _LEFT, 86), f"e.{name}.forecast")
