"""Fitting text: its width, its lines, where it is cut."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from unicodedata import east_asian_width

_NARROW, _WIDE = frozenset("fijlrtI.,:;|'!()[]/ "), frozenset("mwMW@%×⊞")


def width(text: str, font_size: float, *, bold: bool = False) -> float:
    """The width of a text in a proportional font: a generous estimate, since no font is available."""
    ems = sum(map(_ems, text))
    return ems * font_size * (1.1 if bold else 1.0)


def _ems(character: str) -> float:
    if character in _NARROW:
        return 0.40
    if character in _WIDE:
        return 0.98
    if east_asian_width(character) in "WF":
        return 1.05
    return 0.74 if character.isupper() else 0.64


def pack(pieces: Iterable[str], joint: str, limit: float, measure: Callable[[str], float] = len) -> tuple[str, ...]:
    """Pieces joined into as few lines as fit into `limit`; a piece wider than that gets a line of its own.

    >>> pack(("retry 5", "dedup url", "batch 200"), "  ", 18)
    ('retry 5  dedup url', 'batch 200')
    """
    lines: list[str] = []
    for piece in pieces:
        if lines and measure(lines[-1] + joint + piece) <= limit:
            lines[-1] += joint + piece
        else:
            lines.append(piece)
    return tuple(lines)


def clipped(text: str, limit: float, measure: Callable[[str], float] = len) -> str:
    """The text, its end replaced by "…" if it is wider than `limit`.

    >>> clipped("a_rather_long_name", 10)
    'a_rather_…'
    """
    if measure(text) <= limit:
        return text
    while text and measure(text + "…") > limit:
        text = text[:-1]
    return text + "…"


def words(name: str) -> list[str]:
    """The pieces of a long name, between which it may be broken.

    >>> words("fetch_all.pages")
    ['fetch_', 'all.', 'pages']
    """
    return re.findall(r"[^_.\-]+[_.\-]*|[_.\-]+", name)
