"""Selects dead letters and opens their pipeline: what the commands of `flowq dlq` share."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from flowq.cli.framework.completion import complete_stage
from flowq.cli.framework.connect import plan_of, with_broker, with_broker_for_views
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.parameters import duration_of
from flowq.dead_letters.condition import Condition
from flowq.dead_letters.selection import Selection
from flowq.errors import NotFound, UsageError

if TYPE_CHECKING:
    from flowq.broker.shards.every_shard import SilentShard
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
    """The letters that the options select. Raises UsageError."""
    return letters(None, stage, error, since, where)


def letters(
    ids: Ids = None,
    stage: StageName = None,
    error: ErrorGlob = None,
    since: Since = None,
    where: Where = None,
    limit: Limit = None,
) -> Selection:
    """The letters that the ids and options select, at most `limit`. Raises UsageError."""
    earliest = datetime.fromtimestamp(max(0, time.time() - duration_of("--since", since)), UTC) if since else None
    conditions = tuple(Condition.parse(written) for written in where or ())
    return Selection(stage, error, ids or (), earliest, conditions, limit)


Kinds = Annotated[Selection, kinds]
Letters = Annotated[Selection, letters]
"""The dead letters that a command is about."""


def per_second(rate: str | None) -> float | None:
    """The value of --rate in letters per second. Raises UsageError."""
    if rate is None:
        return None
    number, _, unit = rate.partition("/")
    try:
        number_a_second = float(number) / {"": 1, "s": 1, "m": 60, "h": 3600}[unit]
    except (ValueError, KeyError):
        number_a_second = 0
    if not 0 < number_a_second < 1e6:
        raise UsageError(f'--rate "{rate}" is not a rate', hint='write a number per second, or "600/m"')
    return number_a_second


async def must_exist(name: str, letters: DeadLetters, chosen: Selection) -> None:
    """Raises NotFound for an id that names no letter, message or kind."""
    if chosen.ids and (missing := await letters.missing(chosen)):
        text = f'"{name}" has no dead letter {", ".join(missing)}; nothing was changed'
        raise NotFound(text, hint=f"flowq dlq ls {name}")


def in_pipeline(name: str, settings: Settings, work: Callable[[DeadLetters, Inspector], Coroutine[Any, Any, T]]) -> T:
    """Run `work` on the dead letters of a pipeline; returns its result."""
    from flowq.dead_letters.dead_letters import DeadLetters
    from flowq.inspector import Inspector

    plan = plan_of(name, settings)
    return with_broker(plan.name, settings, lambda broker: work(DeadLetters(plan, broker), Inspector(plan, broker)))


def in_letters(name: str, settings: Settings, look: Callable[[DeadLetters], Coroutine[Any, Any, T]]) -> T:
    """Run `look`, which changes nothing, on the dead letters of a pipeline; returns its result.

    Letters in a shard that does not answer are left out, and the shard is named.
    """
    from flowq.dead_letters.dead_letters import DeadLetters
    from flowq.wording.shard_words import silent_words

    plan, silent = plan_of(name, settings), dict[int, "SilentShard"]()
    found = with_broker_for_views(plan, settings, lambda broker: look(DeadLetters(plan, broker, silent=silent)))
    for words in silent_words(silent.values()):
        note(f"{words}: letters there are missing")
    return found


async def how_to_finish(inspector: Inspector) -> str:
    """The command that runs the messages that wait now; "" while workers are running."""
    from flowq.cli.views.run_text import command_to_finish

    return "" if await inspector.workers() else command_to_finish(inspector.plan, await inspector.snapshot())


def none_of(chosen: Selection) -> str:
    """The sentence that there are none."""
    return "no dead letters" + (" match" if chosen != Selection() else "")
