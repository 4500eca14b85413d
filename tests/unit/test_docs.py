"""The pages of the documentation: what they tell people to type exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flowq.cli.app import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_shows_exists(page: Path) -> None:
    shown = set(re.findall(r"^\$ flowq ([a-z]+)", page.read_text(), re.MULTILINE))

    assert shown <= {name for name, *_ in COMMANDS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [ROOT / "docs" / "design.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_what_many_add_to_stands_there_once(page: Path) -> None:
    entries = re.split(r"\n(?=- |\*\*)|\n\n", page.read_text())

    assert len(entries) == len(set(entries))
