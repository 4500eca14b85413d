"""Time, chance and the world are arguments: of floors 1 to 3 always, above them of everything that a worker runs."""

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

TAKING_A_WORLD = [
    FLOWQ / "publisher.py",
    FLOWQ / "inspector.py",
    *sorted((FLOWQ / "broker").rglob("*.py")),
    *sorted((FLOWQ / "runtime").rglob("*.py")),
]
WITHOUT_A_WORLD = {
    "broker/embedded/data_folder.py": "the password of a real server",
    "broker/embedded/server.py": "waits for a real process",
    "broker/embedded/watchdog.py": "restarts a real process",
    "broker/inspection/health.py": "measures a real server",
    "broker/stored_bodies.py": "compares with the times of files",
    "runtime/handlers/retry_after.py": "handlers call it, and have no world",
    "runtime/process/block_watch.py": "watches a real thread",
    "runtime/process/ending.py": "waits for signals",
    "runtime/trial.py": "runs one handler for a person who looks on",
}
"""The modules that call a clock or chance themselves, and why."""
CLOCKS_AND_CHANCE = {"time", "random", "secrets", "uuid"}

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


def clocks_and_chance(source: str) -> set[str]:
    """The modules with clocks or chance that a module imports."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                imported.update(name.name for name in names)
            case ast.ImportFrom(module=str(module)):
                imported.add(module)
            case _:
                pass
    return imported & CLOCKS_AND_CHANCE


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


def test_what_a_worker_runs_takes_clock_and_chance_from_its_world() -> None:
    using = {str(path.relative_to(FLOWQ)) for path in TAKING_A_WORLD if clocks_and_chance(path.read_text())}

    assert using == WITHOUT_A_WORLD.keys()


@pytest.mark.parametrize("line", ["import time", "from random import random", "def f():\n    import secrets as s"])
def test_an_import_of_a_clock_or_of_chance_is_found(line: str) -> None:
    assert clocks_and_chance(line)
