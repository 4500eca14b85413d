"""What the text of a file says about its pipelines and stages: nothing is imported."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Set
from pathlib import Path

_CALL = re.compile(r"""\bPipeline\(\s*(?:name\s*=\s*)?["'](\w+)["']""")


def pipelines_in(file: Path | None) -> tuple[list[str], bool]:
    """The names that are written in calls of `Pipeline`, and whether another call computes its name."""
    if (tree := _tree(file)) is None:  # being edited, perhaps
        return list(dict.fromkeys(_CALL.findall(_text(file).decode(errors="replace")))), False
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _called(node.func) == "Pipeline"]
    names = [_written(call.args[0] if call.args else _keyword(call, "name")) for call in calls]
    return list(dict.fromkeys(name for name in names if name)), not all(names)


def stages_in(file: Path | None, decorators: Set[str]) -> list[str]:
    """The names of the stages or sources that a file defines."""
    tree = _tree(file)
    return [name for node in tree.body for name in _stage_name(node, decorators)] if tree else []


def _tree(file: Path | None) -> ast.Module | None:
    """None for a file that is not valid Python."""
    try:
        with warnings.catch_warnings(action="ignore"):  # Python shows them when it imports the file
            return ast.parse(_text(file))
    except (SyntaxError, ValueError, RecursionError):
        return None


def _text(file: Path | None) -> bytes:
    try:
        return file.read_bytes() if file else b""
    except OSError:
        return b""


def _stage_name(node: ast.stmt, decorators: Set[str]) -> Iterator[str]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        if _called(call.func if call else decorator) in decorators:
            yield (_written(_keyword(call, "name")) if call else "") or node.name


def _called(function: ast.expr) -> str:
    match function:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case _:
            return ""


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg == name), None)


def _written(value: ast.expr | None) -> str:
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
