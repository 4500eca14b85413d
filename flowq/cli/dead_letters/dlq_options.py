"""Which dead letters a command is about, and how it gets at them: what the commands of `flowq dlq` share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from flowq.cli.framework.completion import complete_stage
from flowq.dead_letters.condition import Condition
from flowq.dead_letters.selection import Selection
from flowq.durations import seconds
from flowq.errors import NotFound, UsageError

if TYPE_CHECKING:
    from flowq.dead_letters.dead_letters import DeadLetters
    from flowq.inspector import Inspector
    from flowq.settings import Settings

T = TypeVar("T")

StageName = Annotated[
    str | None,
    typer.Option(
        "--stage", "-s", metavar="STAGE", help="Only dead letters of this stage.", autocompletion=complete_stage
    ),
]
ErrorGlob = Annotated[
    str | None,
    typer.Option("--error", metavar="GLOB", help="Only those whose error line matches, such as '*HTTP 503*'."),
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="DURATION", help='Only those that died in the last "30m", "2h", "1d".')
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Only messages with field=value, !=, <, <=, >, >=, or field~GLOB. Repeatable.",
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="At most N.")]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="Only these: ids of letters or of messages, or kinds as ls shows them."),
]


def kinds(stage: StageName = None, error: ErrorGlob = None, since: Since = None, where: Where = None) -> Selection:
    """What the options mean. Raises UsageError."""
    return letters(None, stage, error, since, where)


def letters(
    ids: Ids = None,
    stage: StageName = None,
    error: ErrorGlob = None,
    since: Since = None,
    where: Where = None,
    limit: Limit = None,
) -> Selection:
    """The same for single letters, and at most so many."""
    try:
        earliest = datetime.fromtimestamp(time.time() - seconds(since), UTC) if since else None
    except ValueError as problem:
        raise UsageError(f"--since {problem}") from None
    conditions = tuple(Condition.parse(written) for written in where or ())
    return Selection(stage, error, ids or (), earliest, conditions, limit)


Kinds = Annotated[Selection, kinds]
Letters = Annotated[Selection, letters]
"""The dead letters that a command is about."""


def per_second(rate: str | None) -> float | None:
    """A rate as it is written, in letters a second. Raises UsageError."""
    if rate is None:
        return None
    number, _, unit = rate.partition("/")
    try:
        number_a_second = float(number) / {"": 1, "s": 1, "m": 60, "h": 3600}[unit]
    except (ValueError, KeyError):
        number_a_second = 0
    if not 0 < number_a_second < 1e6:
        raise UsageError(f'--rate "{rate}" is not a rate', hint='a number a second, or "600/m"')
    return number_a_second


async def must_exist(name: str, letters: DeadLetters, chosen: Selection) -> None:
    """Raise NotFound unless every id that was given means something."""
    if chosen.ids and (missing := await letters.missing(chosen)):
        text = f'"{name}" has no dead letter {", ".join(missing)}; nothing was changed'
        raise NotFound(text, hint=f"flowq dlq ls {name}")


def in_pipeline(name: str, settings: Settings, work: Callable[[DeadLetters, Inspector], Coroutine[Any, Any, T]]) -> T:
    """What `work` makes of the dead letters of the pipeline of that name."""
    from flowq.cli.framework.connect import broker_of
    from flowq.cli.framework.loading import load
    from flowq.dead_letters.dead_letters import DeadLetters
    from flowq.inspector import Inspector

    plan = load(name, settings).pipeline.plan

    async def opened() -> T:
        async with broker_of(plan.name, settings) as broker:
            return await work(DeadLetters(plan, broker), Inspector(plan, broker))

    return asyncio.run(opened())


def n_letters(n: int) -> str:
    """So many dead letters, in words."""
    return f"{n:,} dead letter{'s' * (n != 1)}"


def none_of(chosen: Selection) -> str:
    """That there are none of those that were chosen, in words."""
    return "no dead letters" + (" match" if chosen != Selection() else "")
