"""Floors 1 to 3 take time, chance and the world as arguments: what the import contracts cannot see."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FLOWQ = Path(__file__).parents[2] / "flowq"
PURE = [
    FLOWQ / "durations.py",
    FLOWQ / "errors.py",
    FLOWQ / "printable.py",
    *sorted((FLOWQ / "delivery").rglob("*.py")),
    *sorted((FLOWQ / "graph").rglob("*.py")),
]

CLOCK_METHODS = {"now", "today", "utcnow"}  # of datetime and date
WORLD_CALLS = {"open", "print", "input", "breakpoint"}
WORLD_ATTRIBUTES = {"environ", "getenv", "stdin", "stdout", "stderr", "argv"}  # of os and sys


def impurities(source: str) -> Iterator[str]:
    """Name each place of a module that reads a clock or touches the world."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr=name)) if name in CLOCK_METHODS:
                yield f"line {node.lineno}: reads the clock with .{name}()"
            case ast.Call(func=ast.Name(id=name)) if name in WORLD_CALLS:
                yield f"line {node.lineno}: calls {name}()"
            case ast.Attribute(value=ast.Name(id="os" | "sys"), attr=name) if name in WORLD_ATTRIBUTES:
                yield f"line {node.lineno}: reads {name}"
            case _:
                pass


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(FLOWQ)))
def test_a_pure_floor_reads_no_clock_and_touches_no_world(path: Path) -> None:
    assert list(impurities(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "moment = datetime.now(UTC)",
        "text = open('settings.toml').read()",
        "print('ready')",
        "home = os.environ['HOME']",
    ],
)
def test_an_impure_line_is_found(line: str) -> None:
    assert len(list(impurities(line))) == 1
