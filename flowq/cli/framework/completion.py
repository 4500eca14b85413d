"""Names for shell completion, from the text of files alone: no user code is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flowq.errors import FlowqError
from flowq.settings import Settings

if TYPE_CHECKING:
    from flowq.cli.framework.loading import Entry

_STAGES, _STAGES_AND_SOURCES = {"stage"}, {"stage", "source"}


def complete_pipeline(incomplete: str) -> list[str]:
    """Pipelines, by the names of their files."""
    return [entry.name for entry in _entries() if entry.name.startswith(incomplete)]


def complete_stage(ctx: typer.Context, incomplete: str) -> list[str]:
    """Stages of the pipeline on the command line; completes the last of several, as in `-s fetch,par`."""
    before, comma, beginning = incomplete.rpartition(",")
    stages = _stages_of(_named(ctx), _STAGES_AND_SOURCES)
    return [f"{before}{comma}{stage}" for stage in stages if stage.startswith(beginning)]


def complete_number_of_stage(ctx: typer.Context, incomplete: str) -> list[str]:
    """Stages that accept messages, ready for the number: `-c fetch=`."""
    return [f"{stage}=" for stage in _stages_of(_named(ctx), _STAGES) if stage.startswith(incomplete)]


def complete_option_of_stage(ctx: typer.Context, incomplete: str) -> list[str]:
    """Stages that accept messages, and after a dot their options: `--set fetch.retry.attempts=`."""
    stage, dot, beginning = incomplete.partition(".")
    if not dot:
        return [f"{stage}." for stage in _stages_of(_named(ctx), _STAGES) if stage.startswith(incomplete)]
    from flowq.graph.compilation.tuning import TUNABLE

    return [f"{stage}.{option}=" for option in TUNABLE if option.startswith(beginning)]


def complete_pipeline_or_stage(incomplete: str) -> list[str]:
    """Pipelines, and after a dot their stages: `scrape.fe`."""
    named, dot, beginning = incomplete.partition(".")
    if not dot:
        return complete_pipeline(incomplete)
    stages = _stages_of(named, _STAGES_AND_SOURCES)
    return [f"{named}.{stage}" for stage in stages if stage.startswith(beginning)]


def _named(ctx: typer.Context) -> str:
    """The pipeline of this command line."""
    # While an option lacks its value, parsing fails and leaves the name among the remaining arguments.
    target = ctx.params.get("name") or ctx.params.get("target") or next(iter(ctx.args), "")
    return str(target).partition(".")[0]


def _stages_of(pipeline: str, decorators: Set[str]) -> list[str]:
    return [stage for entry in _entries() if entry.name == pipeline for stage in stages_in(entry.file, decorators)]


def _entries() -> list[Entry]:
    from flowq.cli.framework.loading import entries

    try:
        return entries(Settings.load())
    except FlowqError:  # reported when the command runs, not while it is typed
        return []


def stages_in(file: Path | None, decorators: Set[str]) -> list[str]:
    """The names of the stages or sources that a file defines."""
    if file is None:
        return []
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    return [name for node in tree.body for name in _stage_name(node, decorators)]


def _stage_name(node: ast.stmt, decorators: Set[str]) -> Iterator[str]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for decorator in node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        written = (
            called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
        )
        if written in decorators:
            keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
            names = [
                word.value.value for word in keywords if word.arg == "name" and isinstance(word.value, ast.Constant)
            ]
            yield str(names[0]) if names else node.name
