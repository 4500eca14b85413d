"""What `flowq test` shows: a line while it runs, and a table of what it has tried."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from flowq.cli.property_test.property_test import LONG_ENOUGH_SECONDS, Tally
from flowq.cli.views.table import Column, fitted_table, indented, number
from flowq.printable import printable

if TYPE_CHECKING:
    from flowq.testing import Report

_COLUMNS = (
    Column("stage", is_text=True),
    Column("calls"),
    Column("dead"),
    Column("why the first one died", worth=1, is_text=True, flexible=True),
)
_MOST_WORDS_OF_AN_ERROR = 200


@contextmanager
def progress_line(console: Console, pipeline: str, seeds: int | None) -> Generator[Callable[[Report], None]]:
    """A line that is painted over while the test runs, on a terminal; yields what updates it."""
    counts = TextColumn("{task.fields[seeds]:,} seeds, {task.fields[faults]} faults")
    columns = (TextColumn(" {task.description}"), BarColumn(), counts, TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(pipeline, total=seeds or LONG_ENOUGH_SECONDS, seeds=0, faults=0)

        def show(report: Report) -> None:
            done = report.seconds if seeds is None else report.seeds
            progress.update(task, completed=done, seeds=report.seeds, faults=f"{report.fired.total():,}")

        yield show


def result(pipeline: str, report: Report, tally: Tally, width: int) -> RenderableType:
    """The result of a test that has found nothing."""
    head = f"{pipeline}: {_counted(report.seeds, 'seed')} with {_counted(tally.fed, 'message')}"
    head += f" in {report.seconds:.1f} s"
    rows = [
        (Text(name), number(stage.calls), number(stage.dead), Text(printable(stage.error[:_MOST_WORDS_OF_AN_ERROR])))
        for name, stage in tally.stages.items()
    ]
    table = indented(fitted_table(_COLUMNS, rows, width - 1))
    verdict = Text("nothing lost, nothing doubled, nothing left behind; every balance adds up", style="green")
    return Group(Text(head), Text(""), table, Text(""), Text(f" faults  {_faults(report)}"), verdict)


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s'[: n != 1]}"


def _faults(report: Report) -> str:
    return ", ".join(f"{n:,} {kind}" for kind, n in sorted(report.fired.items())) or "none"


def as_json(pipeline: str, report: Report, tally: Tally) -> Mapping[str, Any]:
    """The same for a program."""
    return {
        "pipeline": pipeline,
        "seeds": report.seeds,
        "messages": tally.fed,
        "seconds": round(report.seconds, 3),
        "faults": dict(report.fired),
        "stages": {
            name: {"calls": stage.calls, "dead": stage.dead, "error": stage.error}
            for name, stage in tally.stages.items()
        },
    }
