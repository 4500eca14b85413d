"""The command line: `python -m benchmarks [--only W1,W4] [--reps 5] [--json FILE]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from benchmarks.figures import Measured, Result, Workload, results_of
from benchmarks.page import with_figures
from benchmarks.report import WIDTH, as_json, machine, table_of
from benchmarks.server import Server
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.growth import HUGE


def main(
    only: Annotated[str, typer.Option(help="Workloads, separated by commas; all by default.")] = "",
    reps: Annotated[int, typer.Option(min=1, help="Repetitions; the median is reported.")] = 5,
    scale: Annotated[float, typer.Option(min=0.01, help="Fraction of the work: 0.1 for a quick look.")] = 1.0,
    huge: Annotated[bool, typer.Option("--huge", help="Also with 10,000,000 messages waiting (3 GB).")] = False,
    unix_socket: Annotated[bool, typer.Option("--unix-socket", help="Use a unix socket instead of TCP.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write all measurements to this file.")] = None,
    page: Annotated[Path | None, typer.Option(help="Insert the figures into this Markdown page.")] = None,
) -> None:
    """Compare flowq with a plain loop and a hand-written limit."""
    Server.on_unix_socket = unix_socket
    console = Console(width=WIDTH)
    with Server() as server:
        about = machine(server.version)
    console.print(
        f"Redis {about['redis']}, Python {about['python']}, {about['cores']} cores; median of {reps}", highlight=False
    )
    repetitions: dict[str, list[Measured]] = {}
    results: list[Result] = []
    for workload in chosen(only, (*WORKLOADS, *HUGE) if huge else WORKLOADS):
        with console.status(workload.name):
            repetitions[workload.name] = [workload.measure(scale) for _ in range(reps)]
        found = results_of(workload, repetitions[workload.name])
        results += found
        console.print(table_of(workload, found))
    if json is not None:
        json.write_bytes(orjson.dumps(as_json(about, repetitions, results), option=orjson.OPT_INDENT_2))
    if page is not None:
        page.write_text(with_figures(page.read_text(), about, reps, results))


def chosen(only: str, workloads: tuple[Workload, ...]) -> list[Workload]:
    """The named workloads, in their usual order."""
    names = set(filter(None, only.split(",")))
    if unknown := names - {workload.name for workload in workloads}:
        known = ", ".join(workload.name for workload in workloads)
        raise typer.BadParameter(f"no workload {', '.join(sorted(unknown))}; there are {known}", param_hint="--only")
    return [workload for workload in workloads if not names or workload.name in names]


if __name__ == "__main__":
    typer.run(main)
