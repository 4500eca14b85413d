"""The words that the glossary rules out do not come back, in the code and on the pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")]
CODE = [
    *(path for ending in ("py", "lua", "tmpl") for path in (ROOT / "flowq").rglob(f"*.{ending}")),
    *(path for folder in ("benchmarks", "examples", "pipelines") for path in (ROOT / folder).rglob("*.py")),
]
QUOTED = re.compile(r"`[^`]*`")  # names in Redis or of tests

WORDS = re.findall(r"`([^`]+)`", GLOSSARY.read_text().partition("## Words not to use")[2])
NOT_TO_USE = re.compile(rf"(?<![a-z])(?:{'|'.join(WORDS)})(?![a-z])", re.IGNORECASE)


def uses(path: Path) -> Iterator[str]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for found in NOT_TO_USE.findall(QUOTED.sub("", line) if path.suffix == ".md" else line):
            yield f"{path.relative_to(ROOT)}:{number}: {found}"


def test_the_glossary_names_them() -> None:
    assert len(WORDS) > 20
    assert NOT_TO_USE.search("is Mended_by")
    assert not NOT_TO_USE.search("akin to napkins")


@pytest.mark.parametrize("paths", [PAGES, CODE], ids=["pages", "code"])
def test_they_are_not_used(paths: list[Path]) -> None:
    assert [use for path in sorted(paths) if path != GLOSSARY for use in uses(path)] == []


def test_names_of_tests_do_not_use_them() -> None:
    names = {
        name for path in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert [name for name in sorted(names) if NOT_TO_USE.search(name.replace("_", " "))] == []


def test_the_glossary_is_in_order() -> None:
    terms = re.findall(r"^\| (?!word )([a-z][^|]*?) \|", GLOSSARY.read_text(), re.MULTILINE)

    assert len(terms) > 50
    assert terms == sorted(terms, key=str.lower)
