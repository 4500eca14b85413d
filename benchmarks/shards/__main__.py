"""The command line: `python -m benchmarks.shards [--reps 3] [--page FILE]`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.figures import Measured
from benchmarks.report import WIDTH, machine
from benchmarks.server import Server
from benchmarks.shards.measuring import costs, waits
from benchmarks.shards.page import tables_of, with_tables


def main(
    reps: Annotated[int, typer.Option(min=1, help="Repetitions; the median is reported.")] = 3,
    scale: Annotated[float, typer.Option(min=0.01, help="Fraction of the work: 0.1 for a quick look.")] = 1.0,
    page: Annotated[Path | None, typer.Option(help="Insert the figures into this Markdown page.")] = None,
) -> None:
    """Compare a pipeline that is divided over several servers with the same one on one server."""
    console = Console(width=WIDTH)
    with Server() as server:
        about = machine(server.version)
    with console.status("what a hop costs"):
        found_costs = _medians([costs(scale) for _ in range(reps)])
    with console.status("how long a hop takes"):
        found_waits = _medians([waits(scale) for _ in range(reps)])
    tables = tables_of(about, reps, found_costs, found_waits)
    console.print(Markdown(tables))
    if page is not None:
        page.write_text(with_tables(page.read_text(), tables))


def _medians(repetitions: Sequence[Measured]) -> Measured:
    """Medians of the values, among which are ratios within a repetition."""
    return {key: median(repetition[key] for repetition in repetitions) for key in repetitions[0]}


if __name__ == "__main__":
    typer.run(main)
