"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from flowq.cli.framework.completion import (
    complete_pipeline as complete_pipeline,  # those who name pipelines find it here
)
from flowq.cli.framework.completion import complete_pipeline_or_stage
from flowq.durations import seconds
from flowq.errors import UsageError
from flowq.settings import Settings

PipelineName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The name of the pipeline (flowq ls).",
        autocompletion=complete_pipeline,
        show_default=False,
    ),
]
PipelineNameOrAll = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="The pipeline; without a name, all of this project.",
        autocompletion=complete_pipeline,
        show_default=False,
    ),
]
PipelineNameOrNone = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="A pipeline, to show its stages as well.",
        autocompletion=complete_pipeline,
        show_default=False,
    ),
]
PipelineOrStage = Annotated[
    str,
    typer.Argument(
        metavar="NAME[.STAGE]",
        help="The pipeline, or one stage of it.",
        autocompletion=complete_pipeline_or_stage,
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis",
        metavar="URL",
        rich_help_panel="Redis",
        help='The Redis to use; "embedded" is flowq\'s own, in .flowq/.  [env: FLOWQ_REDIS_URL; default: embedded]',
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="PREFIX", rich_help_panel="Redis", help="Prefix of all Redis keys."),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile", metavar="NAME", rich_help_panel="Redis", help="Use [tool.flowq.profiles.NAME] of pyproject.toml."
    ),
]


class LogFormat(StrEnum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


LogLevels = Annotated[
    list[str] | None,
    typer.Option(
        "--log-level",
        metavar="[LOGGER=]LEVEL",
        envvar="FLOWQ_LOG_LEVEL",
        rich_help_panel="Watch",
        help="What to log: debug, info, warning or error; for one logger, httpx=debug. Repeatable.  [default: warning]",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ByShard = Annotated[bool, typer.Option("--by-shard", help="Show a row for each shard as well.")]


def settings_here(redis: RedisUrl = None, namespace: Namespace = None, profile: Profile = None) -> Settings:
    """The settings of the project in the current directory, overridden by the flags that are not None."""
    return Settings.load(flags={"redis": redis, "namespace": namespace}, profile=profile)


def duration_of(flag: str, text: str) -> float:
    """The value of a flag in seconds, from a number or "10m". Raises UsageError."""
    try:
        return seconds(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None


def pairs_of(flag: str, values: Sequence[str] | None, form: str, *, may_be_empty: bool = False) -> dict[str, str]:
    """The values of a repeatable flag that have the form KEY=VALUE; `form` names both. Raises UsageError."""
    pairs: dict[str, str] = {}
    for item in values or ():
        key, equals, value = item.partition("=")
        if not equals or not key or not (value or may_be_empty):
            raise UsageError(f"{flag} {item} is not {form}", hint=f"write  {flag} {form}")
        pairs[key] = value
    return pairs


def arguments_of(given: Sequence[str] | None) -> dict[str, str | list[str]]:
    """The arguments of sources, as `-a` gives them. A repeated one is a list. Raises UsageError."""
    several: dict[str, list[str]] = {}
    for item in given or ():
        for key, value in pairs_of("-a", [item], "KEY=VALUE", may_be_empty=True).items():
            several.setdefault(key, []).append(value)
    return {key: values[0] if len(values) == 1 else values for key, values in several.items()}


Here = Annotated[Settings, settings_here]
"""The settings of a command."""
