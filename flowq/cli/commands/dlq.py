"""`flowq dlq`: lists, shows, fixes, removes and retries dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.dead_letters.dlq_options import (
    Kinds,
    Letters,
    how_to_finish,
    in_letters,
    in_pipeline,
    must_exist,
    none_of,
    per_second,
)
from flowq.cli.framework.completion import complete_stage
from flowq.cli.framework.connect import audited
from flowq.cli.framework.consent import is_agreed
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.help import App
from flowq.cli.framework.parameters import DryRun, Here, Json, PipelineName, Yes
from flowq.errors import NotFound, UsageError
from flowq.printable import json_text
from flowq.wording.quantities import counted
from flowq.wording.shell_commands import selection_words

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
    """List dead letters by stage and kind of error, with counts and times.

    Errors are of one kind if the same function raised them and they differ only in numbers. The first column is the
    number of the first letter for flowq dlq show; the last one is the id of the kind for all other commands.

    Example:
      flowq dlq ls scrape
      flowq dlq ls scrape --error '*HTTP 503*' --since 1h
    """

    groups: list[DeadLetterGroup] = in_letters(name, settings, lambda letters: letters.groups(chosen))
    if json:
        print(json_text([group.as_json() for group in groups], indent=True))
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
        typer.Argument(metavar="N|ID", help="Its number in the list, its id, the id of its message, or a kind."),
    ] = "1",
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Show one dead letter: the message, its error, its origin, and its earlier errors.

    Numbers count from 1 in the list that the same options select: by stage, oldest first.

    Example:
      flowq dlq show scrape 1
      flowq dlq show scrape 1 --json | jq .message
    """

    async def read(letters: DeadLetters) -> DeadLetterRecord | None:
        from dataclasses import replace

        if which.isdecimal():
            left = int(which)
            async for letter in letters.each(chosen):
                left -= 1
                if left == 0:
                    return letter
        found = await letters.first(replace(chosen, ids=[which]), limit=1)
        return found[0] if found else None

    letter = in_letters(name, settings, read)
    if letter is None:
        raise NotFound(f'"{name}" has no dead letter {which}', hint=f"flowq dlq ls {name}")
    if json:
        print(json_text(letter.as_json(), indent=True))
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
            help="Send them to this stage instead of their own.",
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
    """Put dead letters back where they came from, to run again with all their attempts.

    Without options or an ID, all dead letters of the pipeline are put back. Messages keep their ids. If the command is
    interrupted, run it again: nothing is put back twice. A message that dies again shows its earlier errors. With
    --rate all are put back at once, and become due one after the other.

    Example:
      flowq dlq retry scrape --error '*HTTP 503*' --rate 20 --dry-run
      flowq dlq retry flights --where dest=SJV --set dest=SJU
    """
    pace = per_second(rate)
    if edit and assignments:
        raise UsageError("--edit and --set cannot be combined")

    async def put_back(letters: DeadLetters, inspector: Inspector) -> tuple[Mapping[str, int], str]:
        await must_exist(name, letters, chosen)
        these, change = await _edited(letters, chosen, assignments, asks=edit)
        counts: Mapping[str, int] = {}
        if dry_run or to or change:  # nothing is put back unless all of it fits
            counts = await letters.put_back(these, to=to, edit=change, per_second=pace, dry_run=True)
        if not dry_run:
            given = [("--to", to), ("--rate", rate), *(("--set", each.partition("=")[0]) for each in assignments or ())]
            words = (*selection_words(chosen), *(word for flag, value in given if value for word in (flag, value)))
            async with audited(letters.broker, "edit" if change else "retry", *words) as act:
                counts = await letters.put_back(these, to=to, edit=change, per_second=pace)
                act.n = sum(counts.values())
        return counts, await how_to_finish(inspector)

    counts, to_finish = in_pipeline(name, settings, put_back)
    _report(counts, "would go back to" if dry_run else "put back to", chosen, json=json)
    if any(counts.values()) and to_finish and not (dry_run or json):
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

    Asks for confirmation, and needs --yes without a terminal. flowq dlq export keeps a copy.

    Example:
      flowq dlq rm scrape --error 'Reject: HTTP 404*' --dry-run
      flowq dlq rm scrape --stage fetch --since 1d --yes
    """

    async def remove(letters: DeadLetters, _: Inspector) -> tuple[Mapping[str, int], bool]:
        await must_exist(name, letters, chosen)
        there = await letters.remove(chosen, dry_run=True)
        if dry_run or not any(there.values()):
            return there, True
        n = counted(sum(there.values()), "dead letter")
        if not yes and not is_agreed(name, n, f"flowq dlq rm {name} --yes removes {n}"):
            return {}, False
        async with audited(letters.broker, "remove", *selection_words(chosen)) as act:
            removed = await letters.remove(chosen)
            act.n = sum(removed.values())
        return removed, True

    counts, is_wanted = in_pipeline(name, settings, remove)
    if is_wanted:
        _report(counts, "would be removed from" if dry_run else "removed from", chosen, json=json)


@command.command("export")
def export(
    name: PipelineName,
    chosen: Letters,
    messages: Annotated[
        bool, typer.Option("--messages", help="Only the messages, as input for flowq try and flowq push.")
    ] = False,
    *,
    settings: Here,
) -> None:
    """Write dead letters to standard output, one JSON object per line.

    Nothing is removed. Change the messages in these lines and import them with flowq dlq import.

    Example:
      flowq dlq export flights | python fix.py | flowq dlq import flights - --retry
      flowq dlq export scrape --stage fetch > letters.ndjson
      flowq dlq export scrape --stage parse --messages | flowq try scrape.parse
    """

    async def write(letters: DeadLetters, _: Inspector) -> None:
        async for letter in letters.each(chosen):
            letter.needs_body()
            written = letter.as_json()
            if not messages:
                print(json_text(written))
            elif "message" in written:
                print(json_text(written["message"]))
            else:
                note(f"letter {letter.id} is left out: its message is not JSON")

    in_pipeline(name, settings, write)


@command.command("import")
def import_(
    name: PipelineName,
    source: Annotated[str, typer.Argument(metavar="FILE", help="The output of flowq dlq export; - is standard input.")],
    retry: Annotated[
        bool, typer.Option("--retry", help="Also put the letters back to run again, in the same step.")
    ] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Add letters that were removed, or that come from another Redis.")
    ] = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Replace the messages of dead letters with those in a file.

    Each line needs stage, id and message, and each message must fit its stage. Letters that no longer exist are
    skipped, so importing a file twice is safe; --restore adds them, each once within an hour.

    Example:
      flowq dlq import flights fixed.ndjson && flowq dlq retry flights
      flowq dlq export flights | jq -c '.message.dest = "SJU"' | flowq dlq import flights - --retry
    """
    from flowq.cli.dead_letters.dlq_files import Importer
    from flowq.cli.framework.line_batches import opened

    if retry and restore:
        raise UsageError("--retry and --restore cannot be combined", hint=f"--restore, then flowq dlq retry {name}")

    async def read(letters: DeadLetters, _: Inspector) -> None:
        importer = Importer(letters, restores=restore, puts_back=retry)
        way = "--retry" if retry else "--restore" if restore else ""
        with opened(source) as stream:
            try:
                async with audited(letters.broker, "import", source, way) as act:
                    await importer.read(stream)
                    act.n = importer.done.n
            finally:
                importer.done.report(name, puts_back=retry, json=json)

    in_pipeline(name, settings, read)


async def _edited(
    letters: DeadLetters, chosen: Selection, assignments: Sequence[str] | None, *, asks: bool
) -> tuple[Selection, Edit | None]:
    """The letters to put back, and the edit that changes their messages."""
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


def _report(counts: Mapping[str, int], what: str, chosen: Selection, *, json: bool) -> None:
    changed = {where: n for where, n in counts.items() if n}
    if json:
        print(json_text(changed, indent=True))
        return
    for where, n in changed.items():
        print(f"{counted(n, 'dead letter')} {what} {where}")
    if not changed:
        print(none_of(chosen))
