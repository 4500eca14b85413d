"""The pages of the documentation: the commands, options, names and links that they show exist."""

from __future__ import annotations

import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from flowq.cli.app import COMMANDS, app
from tests.docs.page import Block, read
from tests.docs.pages import ALL, ROOT

PAGE = pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words of each `flowq` command in the blocks of a page that show a terminal."""
    for block in read(page.read_text()).steps:
        if not isinstance(block, Block) or block.language not in ("", "console"):
            continue
        lines = block.text.splitlines()
        typed = [command.line for command in block.commands()] or lines
        for command in re.split(r" \| | && |; ", " | ".join(typed)):
            if command.startswith("flowq "):
                yield shlex.split(command, comments=True)


@PAGE
def test_every_command_and_option_that_a_page_shows_exists(page: Path) -> None:
    for line in command_lines(page):
        command: Any = typer.main.get_command(app)
        words = line[1:]
        while hasattr(command, "resolve_command"):
            if words[0].startswith("-"):
                break
            _, command, words = command.resolve_command(
                command.make_context("flowq", [], resilient_parsing=True), words
            )
            assert command is not None, line
        options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        shown = {re.match(r"--[\w-]+|-\w", word) for word in words}
        assert {found[0] for found in shown if found} <= {*options, "--help"}, line


def test_the_table_of_commands_in_the_readme_names_each_command_once() -> None:
    table = (ROOT / "README.md").read_text().partition("## Commands\n")[2].partition("\n## ")[0]
    firsts = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [words.removeprefix("flowq ").split()[0] for first in firsts for words in re.findall(r"`([^`]+)`", first)]

    assert sorted(named) == sorted(name for name, *_ in COMMANDS)


@PAGE
def test_an_excerpt_is_as_in_its_file(page: Path) -> None:
    for block in read(page.read_text()).steps:
        if isinstance(block, Block) and (files := [note for note in block.notes if note.startswith("excerpt of ")]):
            assert block.text in (ROOT / files[0].removeprefix("excerpt of ")).read_text(), block


def test_every_import_that_a_page_shows_works() -> None:
    text = "\n".join(page.read_text() for page in [*ALL, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])
    shown = set(re.findall(r"^((?:from|import) (?:flowq|examples)\b.*)$", text, re.MULTILINE))
    assert len(shown) > 10
    for line in sorted(shown):
        exec(line, {})


def test_every_name_of_flowq_that_a_page_mentions_exists() -> None:
    pages = [page for page in ALL if page.name != "observability.md"]  # whose names are attributes of spans
    text = "\n".join(page.read_text() for page in [*pages, ROOT / "CHANGELOG.md"])
    named = set(re.findall(r"`(flowq(?:\.[a-zA-Z]\w*)+)[`(]", text))
    assert len(named) > 3
    assert [name for name in sorted(named) if not resolves(name)] == []


def resolves(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (AttributeError, ImportError):
        return False
    return True


@PAGE
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [ROOT / "docs" / "design.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_no_entry_is_listed_twice(page: Path) -> None:
    entries = re.split(r"\n(?=- |\*\*)|\n\n", page.read_text())

    assert len(entries) == len(set(entries))


@PAGE
def test_every_column_of_a_table_has_a_name(page: Path) -> None:
    headers = re.findall(r"^(\|.*\|)\n\|[-:| ]+\|$", page.read_text(), re.MULTILINE)

    assert [header for header in headers if not all(name.strip() for name in header[1:-1].split("|"))] == []
