"""The page on architecture and its drawing name files that exist, and directions that the contracts enforce."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
DRAWING = ROOT / "docs" / "message-path.svg"

PATH = re.compile(r"(?:`|>)((?:[a-z_]+/)*[a-z_]+(?:/|\.py|\.lua))(?:`|<)")


def layers(container: str) -> list[str]:
    """The order of an import contract, from top to bottom."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return next(contract["layers"] for contract in contracts if contract.get("containers") == [container])


def test_every_path_of_the_page_exists() -> None:
    named = PATH.findall(PAGE.read_text())

    assert len(named) > 50
    places = (ROOT / "flowq", ROOT / "flowq/runtime/stage", ROOT)
    assert [path for path in named if not any((place / path).exists() for place in places)] == []


def test_the_drawing_numbers_the_files_of_the_path_as_the_page_does() -> None:
    listed = re.findall(r"^(\d)\. `([\w/.]+)`", PAGE.read_text(), re.MULTILINE)
    drawn = re.findall(r'class="n">(\d)</text>\s*<text [^>]*>([\w/.]+)<', DRAWING.read_text())

    assert [number for number, _ in listed] == list("12345678")
    assert sorted(drawn) == listed


def test_the_page_names_every_floor() -> None:
    named = {path.strip("/").removesuffix(".py") for path in PATH.findall(PAGE.read_text())}

    floors = {room for layer in layers("flowq") for room in layer.split(" | ")}
    assert floors - named == {"(__main__)"}


@pytest.mark.parametrize("package", ["cli", "runtime", "broker", "graph"])
def test_the_directions_inside_a_package_are_those_of_its_contract(package: str) -> None:
    floor = {room: n for n, layer in enumerate(layers(f"flowq.{package}")) for room in layer.split(" | ")}
    (line,) = re.findall(rf"^- `{package}`: (.*)$", PAGE.read_text(), re.MULTILINE)
    rooms = line.split(" → ")

    assert [floor[room] for room in rooms] == sorted({floor[room] for room in rooms})
