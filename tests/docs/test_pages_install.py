"""A reader who has only what a page says to install can follow it."""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest

from tests.docs.page import Block, read
from tests.docs.pages import PAGES, ROOT

OURS = {"flowq", "pipelines", "examples", "tests"}
IMPORT = re.compile(r"^\s*(?:from|import) +([\w.]+)", re.MULTILINE)
EXTRA_OF = {"flowq.scraping": "scraping", 'redis="memory"': "test", "claim_above=": "claim", "--memory": "test"}


@cache
def distributions_of_modules() -> dict[str, list[str]]:
    return dict(packages_distributions())


@cache
def distributions_of_extras() -> dict[str, set[str]]:
    """The distributions that each extra of flowq brings; those that it always needs under ""."""
    found: dict[str, set[str]] = {}
    for line in requires("flowq-streams") or []:
        name = re.split(r"[\s\[<>=;]", line, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"](\w+)['\"]", line)
        found.setdefault(extra[1] if extra else "", set()).add(name)
    return found


@cache
def brought_by(distribution: str) -> set[str]:
    """What a distribution needs itself: Django brings asgiref."""
    try:
        return {re.split(r"[\s\[<>=;!~]", line, maxsplit=1)[0] for line in requires(distribution) or []}
    except PackageNotFoundError:
        return set()


def text_before(page: Path) -> str:
    """The text of the pages that this one continues, the start of its folder, and the page itself."""
    text = page.read_text()
    start = page.parent / "index.md"
    earlier = read(text).continues
    return (text_before(page.parent / earlier) if earlier else start.read_text() if start.exists() else "") + text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_says_what_to_install_for_what_it_uses(page: Path) -> None:
    blocks = [step for step in read(page.read_text()).steps if isinstance(step, Block) and step.is_run]
    written = {Path(block.title).parts[0].removesuffix(".py") for block in blocks if block.title}
    python = "\n".join(block.text for block in blocks if block.language == "python")
    typed = "\n".join(command.line for block in blocks for command in block.commands())
    imported = {name.split(".")[0] for name in IMPORT.findall(python)} - OURS - written - set(sys.stdlib_module_names)
    installs = re.findall(r"pip install (?:--\S+ )*([^`\n]+)", text_before(page))
    extras = {extra for line in installs for extras in re.findall(r"\[([\w,]+)\]", line) for extra in extras.split(",")}
    bring = distributions_of_extras()
    named = {word for line in installs for word in re.findall(r"[\w-]+", line)}
    installed = named.union(*(bring.get(extra, set[str]()) for extra in {"", *extras}), *map(brought_by, named))
    by_module = distributions_of_modules()

    missing = {module for module in imported if not {module, *by_module.get(module, [])} & installed}
    missing |= {
        f"flowq-streams[{extra}]" for use, extra in EXTRA_OF.items() if use in python + typed and extra not in extras
    }
    assert missing == set()
