"""Writes the stories of the planted bugs into docs/testing.md: `python -m tools.docs.stories`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.marks import replaced
from flowq.testing import Found, explore
from tests.testing.planted import BUGS, WHAT
from tests.testing.planted.bug import Bug

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
BEGIN, END = "<!-- stories: python -m tools.docs.stories -->", "<!-- end of stories -->"


def stories() -> Mapping[str, str]:
    """The shrunk story of each planted bug, by name. Raises ValueError if one is not found."""
    return {name: _story(name, bug) for name, bug in BUGS.items()}


def with_stories(page: str, told: Mapping[str, str]) -> str:
    """Replace the stories in a page. Raises ValueError if the marks are missing."""
    return replaced(page, BEGIN, END, _lines(told))


def _story(name: str, bug: Bug) -> str:
    try:
        asyncio.run(explore(bug.pipeline, bug.build, size=bug.size, resources=bug.resources))
    except Found as found:
        return str(found.story)
    raise ValueError(f"the planted bug {name} was not found")


def _lines(told: Mapping[str, str]) -> Iterator[str]:
    for name, story in told.items():
        yield f"**{name.replace('_', ' ').capitalize()}**: {WHAT[name]}"
        yield ""
        yield "```text"
        yield story.rstrip()
        yield "```"
        yield ""


def main() -> None:
    """Write the page again."""
    PAGE.write_text(with_stories(PAGE.read_text(), stories()))


if __name__ == "__main__":
    main()
