"""The elements of which the drawings of the page consist: SVG with classes and attributes, never with styles."""

from __future__ import annotations

from functools import partial
from xml.etree import ElementTree as ET

from flowq.graph.render.geometry import Box
from flowq.graph.render.text import clipped, width
from flowq.printable import printable

NAME_SIZE, SMALL_NAME_SIZE = 13.5, 12.0


def name_in(room: float, name: str, font_size: float) -> str:
    """As much of a name as fits into `room` pixels, in bold."""
    return clipped(printable(name), room, partial(width, font_size=font_size, bold=True))


def group(parent: ET.Element, look: str, place: Box) -> ET.Element:
    """Several elements that are moved together, to the left upper corner of `place`."""
    moved = f"translate({place.left:.1f} {place.top:.1f})"
    return ET.SubElement(parent, "g", {"class": look, "transform": moved})


def text(parent: ET.Element, look: str, x: float, y: float, content: str = "") -> ET.Element:
    """A text on one line; its class says whether it starts, ends or has its middle at `x`."""
    element = ET.SubElement(parent, "text", {"class": look, "x": f"{x:g}", "y": f"{y:g}"})
    element.text = content
    return element


def rect(parent: ET.Element, look: str, box: Box, radius: float) -> ET.Element:
    """A box with round corners. Without a width if that is a slot."""
    sides = {"x": box.left, "y": box.top, "width": box.width, "height": box.height, "rx": radius}
    shown = {name: f"{value:g}" for name, value in sides.items() if value}
    return ET.SubElement(parent, "rect", {"class": look} | shown)


def icon(parent: ET.Element, look: str, box: Box, href: str = "") -> ET.Element:
    """A picture from the sprite of the page."""
    sides = {"x": box.left, "y": box.top, "width": box.width, "height": box.height}
    shown = {name: f"{value:g}" for name, value in sides.items()}
    return ET.SubElement(parent, "use", ({"class": look} if look else {}) | ({"href": href} if href else {}) | shown)
