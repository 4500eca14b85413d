"""Replaces what a Markdown page has between two marks."""

from __future__ import annotations

from collections.abc import Iterable


def replaced(page: str, begin: str, end: str, lines: Iterable[str]) -> str:
    """The page with these lines between its marks. Raises ValueError if it lacks a mark."""
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"the page lacks a mark: {begin} or {end}")
    return "\n".join((before + begin, "", *lines, "", end + after))
