"""The card of a stage: with its figures, or in a large graph with its state only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from xml.etree import ElementTree as ET

from flowq.dashboard.live.shapes import SPARK_HEIGHT, SPARKS, USE_WIDTH, small_in
from flowq.dashboard.picture.elements import NAME_SIZE, SMALL_NAME_SIZE, group, icon, name_in, rect, text
from flowq.dashboard.picture.slotted import Slotted
from flowq.graph.compilation.plan import StagePlan
from flowq.graph.render.geometry import Box, Size
from flowq.graph.render.labels import details
from flowq.printable import printable

CARD, SMALL_CARD = Size(188.0, 142.0), Size(152.0, 50.0)
_LEFT, _RIGHT, _COLUMN = 16.0, 172.0, 102.0  # of the texts on a card; where its second column begins
_ACROSS = _RIGHT - _LEFT
_ROOM_FOR_NAME, _ROOM_FOR_SMALL_NAME = 90.0, 118.0


@dataclass(frozen=True, slots=True)
class StageCard:
    """One stage, drawn from the slots `s.STAGE.*`.

    The link has the box and the name, and its label is a sentence that begins with the name. The figures stand beside
    it, hidden from a screen reader: they are in the table too, and would be noise when the link is read aloud.
    """

    stage: StagePlan
    href: str
    is_small: bool

    @property
    def size(self) -> Size:
        """How large the card is."""
        return SMALL_CARD if self.is_small else CARD

    def draw(self, parent: ET.Element, box: Box, slots: Slotted) -> None:
        """Add the card, at its place."""
        name = self.stage.name
        kind = "source" if self.stage.is_source else "stage"
        node = group(parent, f"node {kind}", box)
        node.set("data-stage", name)
        slots.attributes(node, data_state=f"s.{name}.state", data_neck=f"s.{name}.neck", data_mortal=f"s.{name}.mortal")
        ET.SubElement(node, "title").text = f"{name}: {', '.join(map(printable, details(self.stage)))}"
        link = ET.SubElement(node, "a", {"class": "card", "id": f"card-{name}", "href": self.href})
        slots.attributes(link, aria_label=f"s.{name}.label")
        rect(link, "box", Box(0, 0, box.width, box.height), 10)
        figures = ET.SubElement(node, "g", {"class": "on-card", "aria-hidden": "true"})
        if self.is_small:
            text(link, "name", 12, 21, name_in(_ROOM_FOR_SMALL_NAME, name, SMALL_NAME_SIZE))
            self._small_figures(figures, slots)
            self._flag(figures, Box(box.width - 100, -9, 92, 18))
        else:
            text(link, "name", _LEFT, 26, name_in(_ROOM_FOR_NAME, name, NAME_SIZE))
            self._figures(figures, slots)
            self._flag(figures, Box(box.width - 106, -10, 96, 20))

    def _small_figures(self, parent: ET.Element, slots: Slotted) -> None:
        name = self.stage.name
        slots.attributes(icon(parent, "state", Box(11, 29, 12, 12)), href=f"s.{name}.icon")
        slots.text(text(parent, "why", 27, 39), f"s.{name}.word")
        slots.text(text(parent, "val end", 141, 39), f"s.{name}.rate")
        ET.SubElement(parent, "circle", {"class": "mortal", "cx": "137", "cy": "16", "r": "4"})

    def _figures(self, parent: ET.Element, slots: Slotted) -> None:
        name = self.stage.name
        slots.text(text(parent, "rate end", _RIGHT, 26), f"s.{name}.rate")
        slots.attributes(icon(parent, "state", Box(15, 35, 13, 13)), href=f"s.{name}.icon")
        slots.text(text(parent, "why", 33, 46), f"s.{name}.brief")
        moved = f"translate({_LEFT:g} 56) scale({_ACROSS / (SPARKS - 1):.4f} 1)"
        for look, slot in (("area", "area"), ("trend", "spark")):
            path = ET.SubElement(parent, "path", {"class": look, "transform": moved})
            slots.attributes(path, d=f"s.{name}.{slot}")
        ground = f"M{_LEFT:g} {56.5 + SPARK_HEIGHT:g}h{_ACROSS:g}"
        ET.SubElement(parent, "path", {"class": "ground", "d": ground})
        if self.stage.is_source:
            self._row(parent, slots, 98, "yielded", f"s.{name}.ok")
            self._row(parent, slots, 115, "dead", f"s.{name}.dead_letters", look="dead")
            text(
                parent,
                "lab",
                _LEFT,
                132,
                small_in(_ACROSS, f"{PurePath(self.stage.place.file).name}:{self.stage.place.line}"),
            )
            return
        text(parent, "lab", _LEFT, 98, "running")
        rect(parent, "track", Box(64, 92, USE_WIDTH, 5), 2.5)
        slots.attributes(rect(parent, "use", Box(64, 92, 0, 5), 2.5), width=f"s.{name}.use")
        slots.text(text(parent, "val end", _RIGHT, 98), f"s.{name}.slots")
        self._row(parent, slots, 115, "p50", f"s.{name}.p50", right=_COLUMN - 14)
        self._row(parent, slots, 115, "p95", f"s.{name}.p95", left=_COLUMN)
        self._row(parent, slots, 132, "retries", f"s.{name}.few_retries", right=_COLUMN - 14)
        self._row(parent, slots, 132, "dead", f"s.{name}.dead_letters", left=_COLUMN, look="dead")

    def _row(
        self,
        parent: ET.Element,
        slots: Slotted,
        y: float,
        label: str,
        slot: str,
        *,
        left: float = _LEFT,
        right: float = _RIGHT,
        look: str = "",
    ) -> None:
        text(parent, "lab", left, y, label)
        slots.text(text(parent, f"val end {look}".rstrip(), right, y), slot)

    def _flag(self, parent: ET.Element, box: Box) -> None:
        flag = group(parent, "flag", box)
        rect(flag, "", Box(0, 0, box.width, box.height), box.height / 2)
        icon(flag, "", Box(7, box.height / 2 - 5, 10, 10), "#i-neck")
        text(flag, "", 20, box.height / 2 + 4, "bottleneck")
