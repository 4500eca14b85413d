"""`flowq check`: imports pipelines and shows everything that is wrong with them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from flowq.cli.framework.error_screen import UserCodeFailed, note, problems_of, show
from flowq.cli.framework.ignored import ignored
from flowq.cli.framework.loading import Loaded, SameName, check_settings, find, load_all
from flowq.cli.framework.modules import modules
from flowq.cli.framework.parameters import Json, complete_pipeline
from flowq.errors import FlowqError, PipelineError, Problem
from flowq.printable import json_text
from flowq.settings import Settings


@dataclass(frozen=True, slots=True)
class _Finding:
    """What the check of one pipeline found."""

    name: str
    where: str
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
        return {"name": self.name, "file": self.where, "ok": not self.errors, "problems": list(self.problems)}


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
    findings = _findings(names or [], settings)
    if as_json:
        print(json_text([finding.as_json() for finding in findings], indent=True))
    else:
        _print(findings)
    for file in [] if names else ignored(settings):
        note(str(file))
    if any(finding.errors for finding in findings):
        raise typer.Exit(2)


def _findings(names: Sequence[str], settings: Settings) -> list[_Finding]:
    if not names:
        check_settings(settings)
        found, broken = load_all(settings)
        findings = [_Finding(", ".join(one.names), one.where, problems_of(one.error)) for one in broken]
        findings += [_checked(loaded, settings) for loaded in found]
        return sorted(findings, key=lambda finding: finding.name)
    return [_finding(name, settings) for name in dict.fromkeys(names)]


def _finding(name: str, settings: Settings) -> _Finding:
    try:
        return _checked(find(name, settings), settings)
    except (PipelineError, SameName, UserCodeFailed) as error:
        files = [module.where for module in modules(settings) if name in (module.short_name, *module.written_names)]
        return _Finding(name, ", ".join(files), problems_of(error))


def _checked(loaded: Loaded, settings: Settings) -> _Finding:
    try:
        problems = loaded.tuned(settings).pipeline.plan.warnings
    except FlowqError as error:
        problems = problems_of(error)
    return _Finding(loaded.name, loaded.module.where, problems)


def _print(findings: Iterable[_Finding]) -> None:
    gap = ""
    for finding in findings:
        style = "red" if finding.errors else "yellow" if finding.problems else "green"
        typer.echo(f"{gap}{finding.name}: {typer.style(finding.verdict, fg=style)}")
        sys.stdout.flush()  # the details go to the other stream, and belong below
        for problem in finding.problems:
            show(problem)
        gap = "\n" if finding.problems else ""
