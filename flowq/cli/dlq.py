"""`flowq dlq`: lists dead letters, shows one, and puts them back to be run again."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from flowq.cli.options import Json, Namespace, PipelineName, Profile, RedisUrl, settings_here
from flowq.errors import NotFound

if TYPE_CHECKING:
    from flowq.inspector import DeadLetterGroup, DeadLetterRecord, Inspector

T = TypeVar("T")

StageName = Annotated[
    str | None, typer.Option("--stage", "-s", metavar="STAGE", help="Only dead letters of this stage.")
]
ErrorGlob = Annotated[
    str | None,
    typer.Option("--error", metavar="GLOB", help="Only those whose error line matches, such as '*HTTP 503*'."),
]

_MOST_GROUPS = 50
_LONGEST_VALUE, _LONGEST_BODY = 300, 2000

command = typer.Typer(help="Look at dead letters, and send them back.")


@command.command("ls")
def ls(
    name: PipelineName,
    stage: StageName = None,
    error: ErrorGlob = None,
    json: Json = False,
    redis: RedisUrl = None,
    namespace: Namespace = None,
    profile: Profile = None,
) -> None:
    """List dead letters by stage and error, with how many, and the first and the last time.

    The first column is the number by which `flowq dlq show` knows the first of them.

    Example:
      flowq dlq ls scrape
      flowq dlq ls scrape --error '*HTTP 503*'
    """

    async def read(inspector: Inspector) -> list[DeadLetterGroup]:
        return await inspector.groups(stage, error=error)

    groups = _inspect(name, read, redis=redis, namespace=namespace, profile=profile)
    if json:
        _print_json([group.as_json() for group in groups])
    elif groups:
        _show_groups(name, groups)
    else:
        print("no dead letters" + (" match" if stage or error else ""))


@command.command("show")
def show(
    name: PipelineName,
    which: Annotated[
        str,
        typer.Argument(metavar="[N|ID]", help="Its number in the list, or the id of the letter or of its message."),
    ] = "1",
    stage: StageName = None,
    error: ErrorGlob = None,
    json: Json = False,
    redis: RedisUrl = None,
    namespace: Namespace = None,
    profile: Profile = None,
) -> None:
    """Show one dead letter: the message, what went wrong, where it came from.

    Numbers count from 1 in the list that the same --stage and --error give: by stage, the oldest first.

    Example:
      flowq dlq show scrape 1
      flowq dlq show scrape 1 --json | jq .message
    """

    async def read(inspector: Inspector) -> DeadLetterRecord | None:
        if which.isdecimal():
            left = int(which)
            async for letter in inspector.each_dead_letter(stage, error=error):
                left -= 1
                if left == 0:
                    return letter
        found = await inspector.dead_letters(stage, error=error, ids=[which], limit=1)
        return found[0] if found else None

    letter = _inspect(name, read, redis=redis, namespace=namespace, profile=profile)
    if letter is None:
        raise NotFound(f'"{name}" has no dead letter {which}', hint=f"flowq dlq ls {name}")
    if json:
        _print_json(letter.as_json())
    else:
        _show_letter(name, letter)


@command.command("retry")
def retry(
    name: PipelineName,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Only these: ids of letters or of messages.")
    ] = None,
    stage: StageName = None,
    error: ErrorGlob = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many would go where.")] = False,
    json: Json = False,
    redis: RedisUrl = None,
    namespace: Namespace = None,
    profile: Profile = None,
) -> None:
    """Put dead letters back where they came from, to be run again with all their attempts.

    Without --stage, --error or an ID these are all dead letters of the pipeline.

    Example:
      flowq dlq retry scrape --error '*HTTP 503*' --dry-run
      flowq dlq retry scrape --stage fetch
    """

    async def put_back(inspector: Inspector) -> tuple[dict[str, int], bool]:
        if ids:
            await _must_exist(name, inspector, ids, stage, error)
        counts = await inspector.replay(stage, error=error, ids=ids or (), dry_run=dry_run)
        return {stage: n for stage, n in counts.items() if n}, bool(await inspector.workers())

    counts, has_workers = _inspect(name, put_back, redis=redis, namespace=namespace, profile=profile)
    if json:
        _print_json(counts)
        return
    for where, n in counts.items():
        letters = f"{n:,} dead letter{'s' * (n > 1)}"
        print(f"{letters} would go back to {where}" if dry_run else f"{letters} put back to {where}")
    if not counts:
        print("no dead letters" + (" match" if stage or error else ""))
    elif not has_workers and not dry_run:
        from flowq.cli.errors import note

        note(f"no worker is running: flowq run {name}")


async def _must_exist(
    name: str, inspector: Inspector, ids: Sequence[str], stage: str | None, error: str | None
) -> None:
    found: set[str] = set()
    async for letter in inspector.each_dead_letter(stage, error=error, ids=ids):
        found |= {letter.id, letter.message_id}
    missing = [asked for asked in ids if asked not in found]
    if missing:
        raise NotFound(
            f'"{name}" has no dead letter {", ".join(missing)}; nothing was put back', hint=f"flowq dlq ls {name}"
        )


def _inspect(name: str, read: Callable[[Inspector], Coroutine[Any, Any, T]], **flags: str | None) -> T:
    """What `read` finds in the pipeline of that name."""
    from flowq.broker.open import open_broker
    from flowq.cli.loading import load
    from flowq.inspector import Inspector

    settings = settings_here(**flags)
    plan = load(name, settings).pipeline.plan

    async def opened() -> T:
        async with open_broker(plan.name, redis=settings.redis, namespace=settings.namespace) as broker:
            return await read(Inspector(plan, broker))

    return asyncio.run(opened())


# What is shown


def _print_json(value: Any) -> None:
    from flowq.cli.printable import json_text

    print(json_text(value, indent=True))


def _show_groups(name: str, groups: Sequence[DeadLetterGroup]) -> None:
    from rich.text import Text

    from flowq.cli.printable import printable
    from flowq.cli.table import Column, console_for, fitted_table, indented, number

    console, now = console_for(sys.stdout), datetime.now().astimezone()
    columns = (
        Column("n", worth=7),
        Column("stage", worth=8, is_text=True),
        Column("error", worth=10, is_text=True, flexible=True),
        Column("count", worth=9),
        Column("first", worth=5),
        Column("last", worth=6),
    )
    rows = [
        (
            Text(f"{group.position}", "dim"),
            Text(group.stage),
            Text(printable(group.error)),
            number(group.count, "bold red"),
            Text(_moment(group.first_died_at, now), "dim"),
            Text(_moment(group.last_died_at, now)),
        )
        for group in groups[:_MOST_GROUPS]
    ]
    console.print(indented(fitted_table(columns, rows, console.width - 1)))
    if len(groups) > _MOST_GROUPS:
        console.print(f" and {len(groups) - _MOST_GROUPS:,} other errors  (--json lists all)")
    hint = f" flowq dlq show {name} {groups[0].position}    flowq dlq retry {name} {_selection(groups[0])}"
    console.print(Text(hint, "dim"), soft_wrap=True)


def _selection(group: DeadLetterGroup) -> str:
    """Options that select such letters. An error is data from outside: it is not made into a command to be copied."""
    kind = group.error.partition(":")[0]
    return f"--error '{kind}*'" if kind.isidentifier() else f"--stage {group.stage}"


def _show_letter(name: str, letter: DeadLetterRecord) -> None:
    from rich.text import Text

    from flowq.cli.printable import printable, printable_lines
    from flowq.cli.table import console_for

    console, now = console_for(sys.stdout), datetime.now().astimezone()

    def line(*parts: str | tuple[str, str]) -> None:
        console.print(Text.assemble(*parts), soft_wrap=True)

    line((letter.stage, "bold"), ("  died ", "dim"), _moment(letter.died_at, now))
    line((printable(letter.line), "bold red"), (f"    {_last_place(letter)}", "cyan"))
    line()
    stages_up = f"{letter.hops} stage{'s' * (letter.hops != 1)} up"
    facts = {
        "reason": f"{letter.reason}, attempt {letter.attempts}",
        "message": letter.message_id,
        "parent": letter.parent_id,
        "root": f"{letter.root_id}, {stages_up}" if letter.parent_id else "",
        "edge": letter.edge,
        "first seen": _moment(letter.first_at, now),
        "worker": letter.worker,
        "run": letter.run,
        "letter": letter.id,
    }
    for title, value in facts.items():
        if value:
            line((f"  {title:<12}", "dim"), printable(value))
    line()
    for title, value in _body_lines(letter):
        line((f"  {printable(title):<12}" if title else "  ", "dim"), value)
    if letter.traceback:
        line()
        for text in printable_lines(letter.traceback):
            line(f"  {text}")
    line()
    line((f"flowq dlq retry {name} {letter.id}    flowq dlq show {name} {letter.id} --json", "dim"))


def _body_lines(letter: DeadLetterRecord) -> list[tuple[str, str]]:
    """The message, field by field where it has fields, long values cropped."""
    from flowq.cli.printable import json_text, printable

    message = letter.message
    if isinstance(message, dict):
        fields = cast("dict[str, Any]", message)
        return [(key, _cropped(json_text(value), _LONGEST_VALUE)) for key, value in fields.items()]
    if message is not None or letter.body == b"null":
        return [("", _cropped(json_text(message), _LONGEST_BODY))]
    if not letter.body:
        return [("", "no body")]
    shown = printable(letter.body[:_LONGEST_BODY].decode("utf-8", "backslashreplace"))
    return [("", f"{len(letter.body):,} bytes, not JSON:"), ("", _cropped(shown, _LONGEST_BODY))]


def _cropped(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters, --json for all)"


def _last_place(letter: DeadLetterRecord) -> str:
    """Where in the user's code it was raised, from the last frame of the traceback."""
    from flowq.cli.errors import shown
    from flowq.cli.printable import printable

    frames = re.findall(r'^  File "(.+)", line (\d+), in (\S+)', letter.traceback, re.MULTILINE)
    if not frames:
        return ""
    file, number, function = frames[-1]
    return printable(f"{shown(Path(file))}:{number} in {function}")


def _moment(moment: datetime, now: datetime) -> str:
    """A time on this machine's clock, with the date when it was not today."""
    local = moment.astimezone(now.tzinfo)
    return local.strftime("%H:%M:%S" if local.date() == now.date() else "%Y-%m-%d %H:%M")
