"""Shows what differs between the code of a pipeline and Redis. Values in, text out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import IO

from rich.text import Text

from flowq.broker.migration.changes import Change, Changes
from flowq.cli.framework.invocation import as_typed
from flowq.cli.views.shards_change_view import show_shards
from flowq.cli.views.table import Column, console_for, fitted_table, indented, number
from flowq.printable import json_text, printable

_SIGNS = {"new": ("+", "green"), "left": ("-", "red"), "moved": (">", "cyan"), "schema": ("~", "yellow")}
_COLUMNS = (
    Column("", worth=9, is_text=True),
    Column("edge", worth=9, is_text=True),
    Column("messages", worth=8),
    Column("what", worth=9, is_text=True, flexible=True),
)


def show_changes(changes: Changes, file: IO[str], *, json: bool) -> None:
    """Write them as a table with what can be done, or as JSON."""
    if json:
        print(json_text(changes.as_json(), indent=True), file=file)
        return
    console = console_for(file)
    if changes.shards:
        show_shards(changes.shards, changes.pipeline, console)
    if not changes.seen_ms:
        console.print(f"{changes.pipeline} has not run here yet: there is nothing to compare with")
        return
    if not changes.changes:
        console.print(f"{changes.pipeline} is up to date" + (" otherwise" if changes.shards else ""))
        return
    seen = datetime.fromtimestamp(changes.seen_ms / 1000).astimezone()
    n = len(changes.changes)
    console.print(
        f"{changes.pipeline}: {n} edge{'s differ' if n > 1 else ' differs'} from the run of {seen:%Y-%m-%d %H:%M}"
    )
    rows = [_row(change) for change in changes.changes]
    console.print(indented(fitted_table(_COLUMNS, rows, console.width - 1)))
    for line in _what_to_do(changes):
        console.print(Text(f" {as_typed(line)}", "yellow"), soft_wrap=True)


def _row(change: Change) -> tuple[Text, Text, Text, Text]:
    sign, style = _SIGNS[change.kind]
    what = {
        "new": "new",
        "left": "no longer in the code",
        "moved": f"goes to {change.to}",
        "schema": "another schema",
    }[change.kind]
    fit = change.fit
    if fit.misfits:
        looked_at = "" if fit.looked_at == change.messages else " looked at"
        what += f": {fit.misfits:,} of {fit.looked_at:,}{looked_at} do not fit"
    elif fit.looked_at:
        what += ": all fit" if fit.looked_at >= change.messages else f": the {fit.looked_at:,} looked at fit"
    return Text(sign, style), Text(printable(change.edge)), number(change.messages, "yellow"), Text(what)


def _what_to_do(changes: Changes) -> Iterator[str]:
    name = changes.pipeline
    moves = "".join(f" --move {old}={new}" for old, new in changes.moves.items())
    for old, new in changes.likely.items():
        yield f"{new} accepts what {old} accepted: renamed?  flowq plan {name}{moves} --move {old}={new}"
    for old, new in changes.likely_sources.items():
        yield f"{new} starts over, unless it is {old} renamed:  flowq plan {name}{moves} --move {old}={new}"
    if changes.misfits:
        reason = next(change.fit.reason for change in changes.changes if change.fit.misfits)
        yield f"{changes.misfits:,} do not fit and will become dead letters. The first: {printable(reason)}"
    left = sum(change.messages for change in changes.changes if change.kind == "left")
    likely = changes.likely or changes.likely_sources
    if left and not likely:
        yield f"{left:,} would be left behind: --move OLD=NEW, or remove them:  flowq gc {name}"
    if not likely:
        yield f"to carry it out:  flowq apply {name}{moves}"
