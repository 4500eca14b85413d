"""`flowq dlq`: lists dead letters, shows, fixes and removes them, and puts them back to be run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowq.cli.dead_letters.dlq_options import (
    Kinds,
    Letters,
    in_pipeline,
    must_exist,
    n_letters,
    none_of,
    per_second,
)
from flowq.cli.framework.completion import complete_stage
from flowq.cli.framework.help import App
from flowq.cli.framework.parameters import DryRun, Here, Json, PipelineName, Yes
from flowq.errors import NotFound, UsageError

if TYPE_CHECKING:
    from flowq.dead_letters.dead_letters import DeadLetters
    from flowq.dead_letters.fitting import Edit
    from flowq.dead_letters.letter import DeadLetterGroup, DeadLetterRecord
    from flowq.dead_letters.selection import Selection
    from flowq.inspector import Inspector

command = App(help="Inspect, fix, retry and remove dead letters.")


@command.command("ls")
def ls(
    name: PipelineName,
    chosen: Kinds,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """List dead letters by stage and kind of error, with how many, and the first and the last time.

    Errors are of one kind when they were raised by the same function and differ in numbers alone. The first column is
    the number by which `flowq dlq show` knows the first of them, the last one names the kind for all other commands.

    Example:
      flowq dlq ls scrape
      flowq dlq ls scrape --error '*HTTP 503*' --since 1h
    """

    async def read(letters: DeadLetters, _: Inspector) -> list[DeadLetterGroup]:
        return await letters.groups(chosen)

    groups = in_pipeline(name, settings, read)
    if json:
        _print_json([group.as_json() for group in groups])
    elif groups:
        from flowq.cli.dead_letters.dlq_screen import show_groups

        show_groups(name, groups)
    else:
        print(none_of(chosen))


@command.command("show")
def show(
    name: PipelineName,
    chosen: Kinds,
    which: Annotated[
        str,
        typer.Argument(
            metavar="N|ID", help="Its number in the list, the id of the letter or of its message, or a kind."
        ),
    ] = "1",
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Show one dead letter: the message, what went wrong, where it came from, what it died of before.

    Numbers count from 1 in the list that the same options give: by stage, the oldest first.

    Example:
      flowq dlq show scrape 1
      flowq dlq show scrape 1 --json | jq .message
    """

    async def read(letters: DeadLetters, _: Inspector) -> DeadLetterRecord | None:
        from dataclasses import replace

        if which.isdecimal():
            left = int(which)
            async for letter in letters.each(chosen):
                left -= 1
                if left == 0:
                    return letter
        found = await letters.first(replace(chosen, ids=[which]), limit=1)
        return found[0] if found else None

    letter = in_pipeline(name, settings, read)
    if letter is None:
        raise NotFound(f'"{name}" has no dead letter {which}', hint=f"flowq dlq ls {name}")
    if json:
        _print_json(letter.as_json())
    else:
        from flowq.cli.dead_letters.dlq_screen import show_letter

        show_letter(name, letter)


@command.command("retry")
def retry(
    name: PipelineName,
    chosen: Letters,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="STAGE",
            help="Send them to this stage, not back to their own.",
            autocompletion=complete_stage,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of each message first. Repeatable."),
    ] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Change the messages in $EDITOR first.")] = False,
    rate: Annotated[str | None, typer.Option("--rate", metavar="N", help='At most N per second, or "600/m".')] = None,
    dry_run: DryRun = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Put dead letters back where they came from, to be run again with all their attempts.

    Without options or an ID these are all dead letters of the pipeline. A message keeps its id. If interrupted, the
    rest is still dead; if repeated, nothing is put back twice. One that dies again shows its earlier errors. With
    --rate all are put back at once, and become due one after another.

    Example:
      flowq dlq retry scrape --error '*HTTP 503*' --rate 20 --dry-run
      flowq dlq retry flights --where dest=SJV --set dest=SJU
    """
    pace = per_second(rate)
    if edit and assignments:
        raise UsageError("--edit and --set cannot be combined")

    async def put_back(letters: DeadLetters, inspector: Inspector) -> tuple[Mapping[str, int], str]:
        from flowq.cli.views.run_text import command_to_finish

        await must_exist(name, letters, chosen)
        these, change = await _edited(letters, chosen, assignments, asks=edit)
        counts: Mapping[str, int] = {}
        if dry_run or to or change:  # nothing is put back unless all of it fits
            counts = await letters.put_back(these, to=to, edit=change, per_second=pace, dry_run=True)
        if not dry_run:
            counts = await letters.put_back(these, to=to, edit=change, per_second=pace)
        return counts, "" if await inspector.workers() else command_to_finish(
            inspector.plan, await inspector.snapshot()
        )

    counts, to_finish = in_pipeline(name, settings, put_back)
    _report(counts, "would go back to" if dry_run else "put back to", chosen, json=json)
    if any(counts.values()) and to_finish and not (dry_run or json):
        from flowq.cli.framework.error_screen import note

        note(f"no worker is running:  {to_finish}")


@command.command("rm")
def rm(
    name: PipelineName,
    chosen: Letters,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Remove dead letters permanently.

    Says how many and asks first; off a terminal it needs --yes. `flowq dlq export` keeps a copy.

    Example:
      flowq dlq rm scrape --error 'Reject: HTTP 404*' --dry-run
      flowq dlq rm scrape --stage fetch --since 1d --yes
    """

    async def remove(letters: DeadLetters, _: Inspector) -> tuple[Mapping[str, int], bool]:
        await must_exist(name, letters, chosen)
        there = await letters.remove(chosen, dry_run=True)
        if dry_run or not any(there.values()):
            return there, True
        if not yes and not _is_agreed(name, sum(there.values())):
            return {}, False
        return await letters.remove(chosen), True

    counts, is_agreed = in_pipeline(name, settings, remove)
    if is_agreed:
        _report(counts, "would be removed from" if dry_run else "removed from", chosen, json=json)


@command.command("export")
def export(
    name: PipelineName,
    chosen: Letters,
    *,
    settings: Here,
) -> None:
    """Write dead letters to standard output, one JSON object a line.

    Nothing is removed. Change `message` in the lines, and `flowq dlq import` gives the letters the new messages.

    Example:
      flowq dlq export flights | python fix.py | flowq dlq import flights - --retry
      flowq dlq export scrape --stage fetch > letters.ndjson
    """
    from flowq.printable import json_text

    async def write(letters: DeadLetters, _: Inspector) -> None:
        async for letter in letters.each(chosen):
            letter.needs_body()
            print(json_text(letter.as_json()))

    in_pipeline(name, settings, write)


@command.command("import")
def import_(
    name: PipelineName,
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="The output of flowq dlq export; - for standard input.")
    ],
    retry: Annotated[bool, typer.Option("--retry", help="Also put the letters back, in the same step.")] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Add letters that were removed, or come from another Redis.")
    ] = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Give dead letters the messages in a file: fixed ones are used when they are put back.

    Each line needs `stage`, `id` and `message`. A message must fit its stage. Letters that are no longer there are
    passed over, so that the same file twice does nothing twice; --restore adds them, each once within an hour.

    Example:
      flowq dlq import flights fixed.ndjson && flowq dlq retry flights
      flowq dlq export flights | jq -c '.message.dest = "SJU"' | flowq dlq import flights - --retry
    """
    from flowq.cli.dead_letters.dlq_files import Importer
    from flowq.cli.framework.line_batches import opened

    if retry and restore:
        raise UsageError("--retry and --restore cannot be combined", hint=f"--restore, then flowq dlq retry {name}")

    async def take(letters: DeadLetters, _: Inspector) -> None:
        importer = Importer(letters, restores=restore, puts_back=retry)
        with opened(source) as stream:
            try:
                await importer.take(stream)
            finally:
                importer.done.report(name, puts_back=retry, json=json)

    in_pipeline(name, settings, take)


# What they share


async def _edited(
    letters: DeadLetters, chosen: Selection, assignments: Sequence[str] | None, *, asks: bool
) -> tuple[Selection, Edit | None]:
    """The letters to be put back, and what changes their messages on the way."""
    from dataclasses import replace

    from flowq.cli.dead_letters.dlq_edit import MOST_TO_EDIT, in_editor, with_fields

    if not asks:
        return chosen, with_fields(assignments) if assignments else None
    found = await letters.first(chosen, limit=min(chosen.limit or MOST_TO_EDIT + 1, MOST_TO_EDIT + 1))
    if len(found) > MOST_TO_EDIT:
        raise UsageError(f"more than {MOST_TO_EDIT} letters to edit", hint="-n 100, or flowq dlq export")
    bodies: Mapping[str, bytes] = in_editor(found) if found else {}
    these = replace(chosen, ids=list(bodies), limit=None) if bodies else replace(chosen, limit=0)

    def edit(letter: DeadLetterRecord) -> bytes | None:
        return bodies.get(letter.id)

    return these, edit


def _is_agreed(name: str, n: int) -> bool:
    from flowq.cli.framework.consent import is_agreed

    return is_agreed(name, n_letters(n), f"flowq dlq rm {name} --yes removes {n_letters(n)}")


def _report(counts: Mapping[str, int], what: str, chosen: Selection, *, json: bool) -> None:
    changed = {where: n for where, n in counts.items() if n}
    if json:
        _print_json(changed)
        return
    for where, n in changed.items():
        print(f"{n_letters(n)} {what} {where}")
    if not changed:
        print(none_of(chosen))


def _print_json(value: Any) -> None:
    from flowq.printable import json_text

    print(json_text(value, indent=True))
