"""Markup with slots: texts and attributes that change every second, in a drawing that is made once."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from xml.etree import ElementTree as ET

_MARK = "\x01"  # `printable` keeps it out of every name


class Slotted:
    """Collects slots while a tree of elements is built, and then fills them quickly, as often as wanted.

    In the markup `data-live="slot"` marks a text and `data-attr="attribute:slot …"` attributes, for the script of the
    page. Only attributes: a page may have no `style=`.

    >>> root, slots = ET.Element("text"), Slotted()
    >>> slots.text(root, "s.fetch.rate")
    >>> slots.close(root)
    >>> slots.filled({"s.fetch.rate": "<2/s"})
    '<text data-live="s.fetch.rate">&lt;2/s</text>'
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._pieces: list[str] = []

    def text(self, element: ET.Element, slot: str) -> None:
        """The text of an element is the value of a slot."""
        element.set("data-live", slot)
        element.text = self._mark(slot)

    def attributes(self, element: ET.Element, **slots: str) -> None:
        """Attributes of an element are values of slots; "_" in their names stands for "-"."""
        names = {attribute.replace("_", "-"): slot for attribute, slot in slots.items()}
        for attribute, slot in names.items():
            element.set(attribute, self._mark(slot))
        element.set("data-attr", " ".join(f"{attribute}:{slot}" for attribute, slot in names.items()))

    def close(self, root: ET.Element) -> None:
        """All elements have been added."""
        self._pieces = ET.tostring(root, encoding="unicode").split(_MARK)

    @property
    def names(self) -> frozenset[str]:
        """The names of all slots."""
        return frozenset(self._names)

    def filled(self, values: Mapping[str, str]) -> str:
        """The markup with these values, which are escaped."""
        pieces = self._pieces.copy()
        pieces[1::2] = (escape(values[self._names[int(number)]]) for number in pieces[1::2])
        return "".join(pieces)

    def _mark(self, slot: str) -> str:
        self._names.append(slot)
        return f"{_MARK}{len(self._names) - 1}{_MARK}"
