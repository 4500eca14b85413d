"""Names for shell completion, from the text of files alone: no user code is imported."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

import typer

from flowq.cli.framework.source_text import stages_in
from flowq.errors import FlowqError
from flowq.settings import Settings

if TYPE_CHECKING:
    from flowq.cli.framework.modules import Module

_STAGES, _STAGES_AND_SOURCES = {"stage"}, {"stage", "source"}


def complete_pipeline(incomplete: str) -> list[str]:
    """Pipelines, by the names in the text of their files."""
    names = {name for module in _modules() for name in module.likely_names}
    return sorted(name for name in names if name.startswith(incomplete))


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
    return [
        stage
        for module in _modules()
        if pipeline in (*module.written_names, module.short_name)
        for stage in stages_in(module.file, decorators)
    ]


def _modules() -> list[Module]:
    from flowq.cli.framework.modules import modules

    try:
        return modules(Settings.load())
    except FlowqError:  # reported when the command runs, not while it is typed
        return []
