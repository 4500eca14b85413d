"""Shows what another number of shards means for what is in Redis. Values in, text out."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from flowq.broker.migration.shards_change import SeenMove, ShardsChange, ShardsMoved
from flowq.cli.framework.invocation import as_typed
from flowq.cli.views.table import Column, fitted_table, indented, number
from flowq.printable import printable
from flowq.wording.quantities import counted

_COLUMNS = (
    Column("edge", worth=9, is_text=True),
    Column("messages", worth=8),
    Column("to move (about)", worth=9),
)


def show_shards(change: ShardsChange, pipeline: str, console: Console) -> None:
    """Write what would move, and what prevents it."""
    begun = ", a move that was interrupted" * change.is_interrupted
    console.print(f"{pipeline}: from {counted(change.before, 'shard')} to {change.after}{begun}")
    rows = [
        (Text(printable(edge.edge)), number(edge.messages, ""), number(edge.moving, "yellow")) for edge in change.edges
    ]
    if rows:
        console.print(indented(fitted_table(_COLUMNS, rows, console.width - 1)))
    for line in _lines(change, pipeline):
        console.print(Text(f" {as_typed(line)}", "yellow"), soft_wrap=True)


def show_moved(change: ShardsChange, moved: ShardsMoved) -> None:
    """Write what has moved."""
    messages = counted(sum(moved.messages.values()), "message")
    values = f" and {counted(moved.values, 'remembered value')}" if moved.values else ""  # copies are not counted
    print(f"moved {messages}{values} from {counted(change.before, 'shard')} to {change.after}")


def _lines(change: ShardsChange, pipeline: str) -> Iterator[str]:
    for seen in change.seen:
        yield _seen(seen)
    if change.leaving:
        for each in change.leaving:
            yield f"shard {each.shard} would go, but holds {each}"
        yield f"that is refused: let it finish, and put back or remove its dead letters:  flowq dlq ls {pipeline}"
        if any(each.kept for each in change.leaving):
            yield f"kept messages go only with all the rest:  flowq run {pipeline} --fresh"
    else:
        yield f"stop all workers, then:  flowq apply {pipeline}"


def _seen(seen: SeenMove) -> str:
    values = counted(seen.values, "value")
    if seen.is_copied:
        return f"{seen.stage} remembers {values}, which do not tell their shard: each shard gets a copy of all"
    return f"{seen.stage} remembers {values}: each goes to its shard"
