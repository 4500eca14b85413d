"""The pages of the documentation: their commands and links exist, and their Python examples run."""

from __future__ import annotations

import io
import pkgutil
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from flowq.cli.app import COMMANDS, app

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").rglob("README.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *EXAMPLES]
ONE_MODULE = ROOT / "docs" / "flow-control.md"  # its blocks build on each other: test_flow_control_page.py
EXCERPT = "<!-- excerpt -->\n"  # before a block that needs code around it

BLOCK = re.compile(rf"^({EXCERPT})?```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words of each `flowq` command in the blocks of a page that show a terminal."""
    for _, language, block in BLOCK.findall(page.read_text()):
        if language not in ("", "console"):
            continue
        lines = block.splitlines()
        typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")] or lines
        for command in " | ".join(typed).split(" | "):
            if command.startswith("flowq "):
                yield shlex.split(command, comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_python_example_of_a_page_runs_or_is_in_a_pipeline(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page == ONE_MODULE:
        return
    pipelines = [file.read_text() for file in (ROOT / "pipelines").glob("*.py")]
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    for excerpt, language, block in BLOCK.findall(page.read_text()):
        if language != "python" or excerpt or any(block in pipeline for pipeline in pipelines):
            continue
        module = ModuleType("example_of_a_page")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(block, str(page), "exec"), module.__dict__)


def test_every_import_that_a_page_shows_works() -> None:
    text = "\n".join(page.read_text() for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])
    shown = set(re.findall(r"^((?:from|import) (?:flowq|examples|pipelines)\b.*)$", text, re.MULTILINE))
    assert len(shown) > 10
    for line in sorted(shown):
        exec(line, {})


def test_every_name_of_flowq_that_a_page_mentions_exists() -> None:
    pages = [page for page in PAGES if page.name != "observability.md"]  # whose names are attributes of spans
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [ROOT / "docs" / "design.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_no_entry_is_listed_twice(page: Path) -> None:
    entries = re.split(r"\n(?=- |\*\*)|\n\n", page.read_text())

    assert len(entries) == len(set(entries))
