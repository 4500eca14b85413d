"""`flowq check`: imports pipelines and shows everything that is wrong with them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from flowq.cli.framework.error_screen import note, problems_of, show
from flowq.cli.framework.ignored import ignored
from flowq.cli.framework.loading import Entry, NoPipeline, entries, find, load_entry
from flowq.cli.framework.parameters import Json, complete_pipeline
from flowq.errors import FlowqError, Problem
from flowq.printable import json_text
from flowq.settings import Settings


@dataclass(frozen=True, slots=True)
class _Finding:
    """What the check of one pipeline found."""

    entry: Entry
    problems: Sequence[Problem]

    @property
    def errors(self) -> int:
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def verdict(self) -> str:
        warnings = len(self.problems) - self.errors
        counts = ((self.errors, "error"), (warnings, "warning"))
        return ", ".join(f"{n} {noun}{'s'[: n > 1]}" for n, noun in counts if n) or "ok"

    def as_json(self) -> dict[str, Any]:
        entry = self.entry
        return {"name": entry.name, "file": entry.where, "ok": not self.errors, "problems": list(self.problems)}


def command(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Pipelines.  [default: all]", autocompletion=complete_pipeline),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check pipelines without running them.

    Imports them and checks types, routes, options, resources, cycles, and the settings of their stages. Needs no Redis.
    The exit code is 2 if there is an error; warnings do not change it.

    Example:
      flowq check
      flowq check scrape flights --json
    """
    settings = Settings.load()
    findings = list(_findings(names or [], settings))
    if as_json:
        print(json_text([finding.as_json() for finding in findings], indent=True))
    else:
        _print(findings)
    for file in [] if names else ignored(settings):
        note(str(file))
    if any(finding.errors for finding in findings):
        raise typer.Exit(2)


def _findings(names: Sequence[str], settings: Settings) -> Iterator[_Finding]:
    chosen = [find(name, settings) for name in names] or entries(settings)
    if not names:
        settings.check_pipelines(entry.name for entry in chosen)
    for entry in chosen:
        try:
            plan = load_entry(entry, settings).pipeline.plan
        except NoPipeline:
            if names:
                raise
        except FlowqError as error:
            yield _Finding(entry, problems_of(error))
        else:
            yield _Finding(entry, plan.warnings)


def _print(findings: Iterable[_Finding]) -> None:
    gap = ""
    for finding in findings:
        style = "red" if finding.errors else "yellow" if finding.problems else "green"
        typer.echo(f"{gap}{finding.entry.name}: {typer.style(finding.verdict, fg=style)}")
        sys.stdout.flush()  # the details go to the other stream, and belong below
        for problem in finding.problems:
            show(problem)
        gap = "\n" if finding.problems else ""
