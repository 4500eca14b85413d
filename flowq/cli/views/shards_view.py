"""The shards of a pipeline as text: a row for each, and what is worth knowing about them. Values in, text out."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from flowq.broker.inspection.merging.shards_seen import ShardFigures, ShardsOverview
from flowq.cli.views.table import Column, fitted_table, indented, number
from flowq.printable import printable
from flowq.wording.quantities import rate_words, size
from flowq.wording.shard_words import hot_words, server_words, trouble_words, unserved_words

_COLUMNS = (
    Column("shard", worth=99),
    Column("received", worth=5),
    Column("waiting", worth=9),
    Column("delayed", worth=7),
    Column("running", worth=8),
    Column("in transit", worth=10),
    Column("dead", worth=6),
    Column("rate", worth=4),
    Column("workers", worth=3),
    Column("memory", worth=2),
    Column("at", worth=1, is_text=True, flexible=True),
)


def shards_table(shards: ShardsOverview, width: int) -> RenderableType:
    """A row for each shard. Of one that does not answer nothing is known but where it is."""
    rows = [_row(each, shards) if isinstance(each, ShardFigures) else _unknown(each.shard, each.address)
            for each in shards.each()]  # fmt: skip
    return indented(fitted_table(_COLUMNS, rows, width - 1))


def _row(each: ShardFigures, shards: ShardsOverview) -> Sequence[Text]:
    is_hot = each.shard == shards.hot
    return (
        Text(str(each.shard), "bold yellow" if is_hot else "bold"),
        number(each.received, "yellow" if is_hot else ""),
        number(each.waiting),
        number(each.delayed),
        number(each.running, "cyan"),
        number(shards.leaving(each.shard)),
        number(each.dead_letters, "red"),
        Text("-" if each.rate is None else rate_words(each.rate), "" if each.rate else "dim"),
        number(each.workers),
        Text(size(each.memory_bytes), "" if each.memory_bytes >= 1000 else "dim"),
        Text(printable(server_words(each.address)), "dim"),
    )


def _unknown(shard: int, address: str) -> Sequence[Text]:
    between = [Text("?", "red") for _ in _COLUMNS[2:]]
    return Text(str(shard), "bold red"), *between, Text(f"{printable(server_words(address))} does not answer", "red")


def shard_notes(shards: ShardsOverview) -> list[Text]:
    """Shards that do not answer, lost messages, shards without a worker, and one that gets too many."""
    lines = [Text(f" {printable(words)}", "bold red") for words in trouble_words(shards)]
    if words := unserved_words(shards):
        lines.append(Text(f" {words}", "yellow"))
    if words := hot_words(shards):
        lines.append(Text(f" {words}", "yellow"))
    return lines
