"""A smoke alarm: a long file or function must be split, or be in EXCEPTIONS with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
WATCHED = ("flowq", "pipelines", "examples")
Function = ast.FunctionDef | ast.AsyncFunctionDef

FILE_LINES = 350
FUNCTION_LINES = 40

# "path" or "path:function" -> why it is read better in one piece.
EXCEPTIONS: dict[str, str] = {}


def oversized(path: Path) -> Iterator[tuple[str, int]]:
    """Name the file and each of its functions that are over the limit, with their lines."""
    source = path.read_text()
    name = path.relative_to(ROOT).as_posix()
    if (lines := len(source.splitlines())) > FILE_LINES:
        yield name, lines
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function) and (lines := body_lines(node)) > FUNCTION_LINES:
            yield f"{name}:{node.name}", lines


def body_lines(function: Function) -> int:
    """Count the lines of a function's body; signature and docstring are documentation, not length."""
    statements = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not statements:
        return 0
    return (statements[-1].end_lineno or 0) - statements[0].lineno + 1


def test_files_and_functions_stay_short_enough_to_read() -> None:
    found = {
        place: lines
        for folder in WATCHED
        for path in sorted((ROOT / folder).rglob("*.py"))
        for place, lines in oversized(path)
    }

    assert found.keys() == EXCEPTIONS.keys(), f"over the limit: {found}; excused: {sorted(EXCEPTIONS)}"
