"""What `flowq dlq` shows of dead letters: the table of their kinds, and one of them with everything in it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Any, cast

from rich.text import Text

from flowq.cli.framework.error_screen import shown
from flowq.cli.framework.invocation import as_typed
from flowq.cli.views.retry_lines import failure_words
from flowq.cli.views.table import Column, console_for, fitted_table, indented, number
from flowq.dead_letters.letter import DeadLetterGroup, DeadLetterRecord
from flowq.delivery.fingerprint import frames_in, without_numbers
from flowq.delivery.stored import text_in
from flowq.printable import json_text, printable, printable_lines
from flowq.wording.moments import moment, moment_of

_MOST_GROUPS = 50
_LONGEST_VALUE, _LONGEST_BODY = 300, 2000


def show_groups(name: str, groups: Sequence[DeadLetterGroup]) -> None:
    """Print the table of kinds."""
    console, now = console_for(sys.stdout), datetime.now().astimezone()
    columns = (
        Column("n", worth=7),
        Column("stage", worth=8, is_text=True),
        Column("error", worth=10, is_text=True, flexible=True),
        Column("place", worth=5, is_text=True),
        Column("count", worth=9),
        Column("first", worth=3),
        Column("last", worth=4),
        Column("kind", worth=6, is_text=True),
    )
    rows = [
        (
            Text(f"{group.position}", "dim"),
            Text(group.stage),
            Text(printable(group.error)),
            Text(printable(PurePath(group.place).name), "cyan"),
            number(group.count, "bold red"),
            Text(moment(group.first_died_at, now), "dim"),
            Text(moment(group.last_died_at, now)),
            Text(group.fingerprint),
        )
        for group in groups[:_MOST_GROUPS]
    ]
    console.print(indented(fitted_table(columns, rows, console.width - 1)))
    if len(groups) > _MOST_GROUPS:
        console.print(f" and {len(groups) - _MOST_GROUPS:,} other errors  (--json lists all)")
    kind = groups[0].fingerprint
    hint = as_typed(f" flowq dlq show {name} {groups[0].position}    flowq dlq retry {name} {kind} --dry-run")
    console.print(Text(hint, "dim"), soft_wrap=True)


def show_letter(name: str, letter: DeadLetterRecord) -> None:
    """Print one letter."""
    console, now = console_for(sys.stdout), datetime.now().astimezone()

    def line(*parts: str | tuple[str, str]) -> None:
        console.print(Text.assemble(*parts), soft_wrap=True)

    line((letter.stage, "bold"), ("  died ", "dim"), moment(letter.died_at, now))
    line((printable(letter.line), "bold red"))
    if letter.place:
        line((_place_of(letter), "cyan"))
    line()
    for title, value in _facts(letter, now).items():
        if value:
            line((f"  {title:<12}", "dim"), printable(value))
    for attempt in letter.each_attempt[:-1]:
        at = "" if attempt.at_ms is None else f"{moment_of(attempt.at_ms, now)}  "
        if at or without_numbers(attempt.error) not in without_numbers(letter.line):  # else it says nothing new
            words = failure_words(attempt, letter.attempts, console.width - 14 - len(at))
            line(("  failed      ", "dim"), at, (words, "yellow"))
    for death in letter.deaths:
        at = moment_of(death.died_ms, now)
        told = f"{at}  attempt {death.attempts}  {printable(death.error)}"
        line(("  died before ", "dim"), (told, "yellow"))
    line()
    for title, value in _body_lines(letter):
        line((f"  {printable(title):<12}" if title else "  ", "dim"), value)
    if letter.traceback:
        line()
        for text in printable_lines(letter.traceback):
            line(f"  {text}")
    line()
    line((as_typed(f"flowq dlq retry {name} {letter.id}"), "dim"))
    line((as_typed(f"flowq dlq show {name} {letter.id} --json"), "dim"))


def _facts(letter: DeadLetterRecord, now: datetime) -> dict[str, str]:
    """The facts about a letter besides its message and error; "" if unknown."""
    stages_up = f"{letter.hops} stage{'s' * (letter.hops != 1)} up"
    return {
        "reason": f"{letter.reason}, attempt {letter.attempts}",
        "message": letter.message_id,
        "parent": letter.parent_id,
        "root": f"{letter.root_id}, {stages_up}" if letter.parent_id else "",
        "edge": letter.edge,
        "first seen": moment(letter.first_at, now),
        "worker": letter.worker,
        "run": letter.run,
        "letter": letter.id,
        "kind": letter.fingerprint,
        "edited": "the message has been changed since it died" if letter.is_edited else "",
    }


def _body_lines(letter: DeadLetterRecord) -> list[tuple[str, str]]:
    """The message, field by field where it has fields, long values cropped."""
    if letter.is_elsewhere:
        return [("", f"in the claim store, which cannot be read here: {printable(text_in(letter.body))}")]
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


def _place_of(letter: DeadLetterRecord) -> str:
    """The line of the user's code, and its function, if the traceback shows it."""
    file, _, number = letter.place.rpartition(":")
    frames = [each for each in frames_in(letter.traceback) if each.file.endswith(file) and str(each.line) == number]
    return printable(shown(letter.place) + (f" in {frames[-1].function}" if frames else ""))
