"""Geometry of drawings that are read back: rectangles, and points along a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from xml.etree import ElementTree as ET

SVG = "{http://www.w3.org/2000/svg}"
ROUNDING = 0.11  # coordinates have one decimal

Point = tuple[float, float]


@dataclass(frozen=True)
class Rect:
    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of(cls, element: ET.Element) -> Rect:
        x, y, width, height = (float(element.attrib[name]) for name in ("x", "y", "width", "height"))
        return cls(x, y, x + width, y + height)

    def overlaps(self, other: Rect) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def contains(self, point: Point, *, inset: float = 0.0) -> bool:
        across = self.left + inset <= point[0] <= self.right - inset
        return across and self.top + inset <= point[1] <= self.bottom - inset

    def distance_of_border(self, point: Point) -> float:
        if not self.contains(point, inset=-ROUNDING):
            return float("inf")
        x, y = point
        return min(abs(x - self.left), abs(x - self.right), abs(y - self.top), abs(y - self.bottom))


def points_along(path: str) -> Iterator[Point]:
    """The points of SVG path data that uses the absolute commands M, L, H, C and Q."""
    here = (0.0, 0.0)
    for command, numbers in re.findall(r"([MLHCQ])([^MLHCQ]*)", path):
        values = [float(number) for number in numbers.split()]
        if command == "H":
            values.append(here[1])
        handles = list(zip(values[::2], values[1::2], strict=True))
        curve = handles if command == "M" else [here, *handles]
        for step in range(41):
            yield bezier(curve, step / 40)
        here = handles[-1]


def bezier(handles: list[Point], t: float) -> Point:
    """De Casteljau: the point at `t` of the Bézier curve of any degree."""
    while len(handles) > 1:
        handles = [(a + (c - a) * t, b + (d - b) * t) for (a, b), (c, d) in pairwise(handles)]
    return handles[0]
