"""How long a user waits for the first output: `python -m benchmarks.startup [--reps 20]`.

Each wait is divided by that for `python -c 'print()'`, measured just before it on the same machine.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

PYTHON_SECONDS = 0.012  # what a start of Python takes where these limits are meant
AT_MOST_SECONDS = {
    ("--help",): 0.25,
    ("run", "one", "--memory"): 0.5,
    ("run", "one"): 0.8,  # and a Redis of its own
}
PIPELINE = """
from collections.abc import Iterator

from flowq import Pipeline, source, stage


@source
def numbers() -> Iterator[int]:
    yield 1


@stage
def show(number: int) -> None: ...


one = Pipeline("one", numbers >> show)
"""


def main(reps: Annotated[int, typer.Option(min=1, help="Repetitions; the median is reported.")] = 20) -> None:
    """Measure the wait for the first line of each command, in starts of Python. Exits with 1 if one is too long."""
    table = Table(box=None, header_style="dim")
    for title in ("command", "in starts of Python", "at most", ""):
        table.add_column(title, justify="left" if title == "command" else "right")
    are_kept: list[bool] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pipelines").mkdir()
        (folder / "pipelines" / "one.py").write_text(PIPELINE)
        for arguments, seconds in AT_MOST_SECONDS.items():
            measured, at_most = in_starts_of_python(folder, arguments, reps), seconds / PYTHON_SECONDS
            are_kept.append(measured <= at_most)
            command = " ".join(("flowq", *arguments))
            table.add_row(command, f"{measured:.1f}", f"{at_most:.1f}", "✓" if are_kept[-1] else "✗")
    Console().print(table)
    raise typer.Exit(not all(are_kept))


def in_starts_of_python(folder: Path, arguments: tuple[str, ...], reps: int) -> float:
    first_line_seconds(folder, "-m", "flowq", *arguments)  # whatever is not compiled yet
    pairs = [
        (first_line_seconds(folder, "-c", "print()"), first_line_seconds(folder, "-m", "flowq", *arguments))
        for _ in range(reps)
    ]
    return statistics.median(command / python for python, command in pairs)


def first_line_seconds(folder: Path, *arguments: str) -> float:
    command = [sys.executable, *arguments]
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.perf_counter() - began
        process.stdout.read()  # it ends by itself
    if process.returncode:
        raise typer.Exit(1)
    return seconds


if __name__ == "__main__":
    typer.run(main)
