"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from flowq.errors import FlowqError
from flowq.settings import Settings


def complete_pipeline(incomplete: str) -> list[str]:
    """Names for shell completion, from the names of the files: nothing of the user's is imported."""
    from flowq.cli.loading import entries

    try:
        known = entries(Settings.load())
    except FlowqError:  # to be told when the command is called, not while it is typed
        return []
    return [entry.name for entry in known if entry.name.startswith(incomplete)]


PipelineName = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The pipeline: pipelines/NAME.py.", autocompletion=complete_pipeline, show_default=False
    ),
]
PipelineNameOrAll = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        help="The pipeline; without a name, all of this project.",
        autocompletion=complete_pipeline,
        show_default=False,
    ),
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis",
        metavar="URL",
        rich_help_panel="Redis",
        help="The Redis to use.  [env: FLOWQ_REDIS_URL; without any, flowq runs its own in .flowq/]",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="PREFIX", rich_help_panel="Redis", help="First part of all Redis keys."),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile", metavar="NAME", rich_help_panel="Redis", help="Take [tool.flowq.profiles.NAME] of pyproject.toml."
    ),
]


class LogFormat(StrEnum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings_here(*, profile: str | None = None, **flags: Any) -> Settings:
    """The settings of the project in the current directory, under the flags given. None: not given."""
    return Settings.load(flags=flags, profile=profile)
