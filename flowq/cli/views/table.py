"""Tables of numbers for a terminal, and the one that shows the stages of a pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from flowq.durations import duration_text
from flowq.printable import printable_block

if TYPE_CHECKING:  # `flowq ls` needs neither Redis nor what it knows
    from flowq.broker.inspection.throughput import Throughput
    from flowq.broker.runs import StageBalance
    from flowq.graph.compilation.plan import StagePlan

_WIDTH_OF_A_FILE = 240
_FLEXIBLE_AT_LEAST = 24


def console_for(file: IO[str]) -> Console:
    """A console that prints text as it is, without markup, and omits no column when it is no terminal."""
    console = _Console(file=file, highlight=False, markup=False, emoji=False)
    if not file.isatty() and "COLUMNS" not in os.environ:
        console.width = _WIDTH_OF_A_FILE
    return console


class _Console(Console):
    """A console that shows control characters as text, even where a view forgot to."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The pieces of text that make up something."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text == "\n" or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable_block(segment.text), segment.style)


@dataclass(frozen=True, slots=True)
class Column:
    """One column. Where there is no room for all, those of the least `worth` are left out first.

    `narrowest` keeps a column from jumping when its numbers change. The `flexible` one is cropped before others go.
    """

    title: str
    worth: int = 9
    is_text: bool = False
    narrowest: int = 0
    flexible: bool = False


def fitted_table(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int) -> Table:
    """A table of at most `width` cells: first the gaps shrink, then columns go."""
    natural = [_natural_width(column, [row[i] for row in rows]) for i, column in enumerate(columns)]
    least = [min(n, _FLEXIBLE_AT_LEAST) if column.flexible else n for n, column in zip(natural, columns, strict=True)]
    kept, gap = _kept(columns, least, width)
    room = width - sum(least[i] + gap for i in kept) + gap
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim", show_edge=False)
    for i in kept:
        column = columns[i]
        table.add_column(
            column.title,
            justify="left" if column.is_text else "right",
            width=min(natural[i], least[i] + room) if column.flexible else least[i],
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        table.add_row(*(row[i] for i in kept))
    return table


def _kept(columns: Sequence[Column], widths: Sequence[int], width: int) -> tuple[list[int], int]:
    """Which columns there is room for, and the gap between them."""
    kept = list(range(len(columns)))
    while True:
        for gap in (2, 1):
            if len(kept) == 1 or sum(widths[i] + gap for i in kept) - gap <= width:
                return kept, gap
        kept.remove(min(kept, key=lambda i: (columns[i].worth, -i)))


def _natural_width(column: Column, cells: Sequence[Text]) -> int:
    return max(len(column.title), column.narrowest, *(cell.cell_len for cell in cells))


def indented(table: Table) -> Padding:
    """The table one cell in from the edge."""
    return Padding(table, (0, 0, 0, 1), expand=False)


# The stages of a pipeline. In, and what it adds up to, stand side by side.

STAGE_COLUMNS: Mapping[str, Column] = {
    column.title: column
    for column in (
        Column("stage", worth=990, is_text=True, narrowest=6),
        Column("cause", worth=125, is_text=True, narrowest=12, flexible=True),
        Column("slots", worth=10),
        Column("in", worth=80, narrowest=6),
        Column("ok", worth=100, narrowest=6),
        Column("filtered", worth=50),
        Column("dead", worth=130),
        Column("purged", worth=60),
        Column("waiting", worth=120),
        Column("delayed", worth=90),
        Column("running", worth=92),
        Column("retries", worth=40),
        Column("dup", worth=20),
        Column("out", worth=30),
        Column("rate", worth=95, narrowest=7),
        Column("p50", worth=42, narrowest=5),
        Column("p95", worth=75, narrowest=5),
        Column("oldest", worth=85),
        Column("forecast", worth=105, narrowest=13),
        Column("workers", worth=89),
        Column("memory", worth=45, narrowest=7),
        Column("trend", worth=88),
    )
}

_STYLES = {"ok": "green", "dead": "bold red", "delayed": "yellow", "running": "cyan", "retries": "yellow"}
_NOTHING = Text("-", style="dim")


def stage_table(titles: Sequence[str], rows: Sequence[Mapping[str, Text]], width: int) -> Table:
    """The stages of a pipeline under the given titles; a row has a cell for each title that applies to it."""
    columns = [STAGE_COLUMNS[title] for title in titles]
    return fitted_table(columns, [[row.get(title, _NOTHING) for title in titles] for row in rows], width)


def stage_cells(stage: StagePlan, balance: StageBalance) -> dict[str, Text]:
    """The counters of one stage by title. A source has outputs only."""
    if stage.is_source:
        return {"stage": Text(stage.name), "ok": number(balance.out, "green"), "out": number(balance.out)}
    purged = {"purged": number(balance.purged, "red")} if balance.purged else {}
    return {
        "stage": Text(stage.name),
        "in": number(balance.entered),
        "dup": number(balance.duplicates),
        **purged,
        **{
            title: number(getattr(balance, title), _STYLES.get(title, ""))
            for title in ("ok", "filtered", "dead", "waiting", "delayed", "running", "retries", "out")
        },
    }


def speed_cells(throughput: Throughput) -> dict[str, Text]:
    """How long the handler of a stage takes, by title, where known."""
    found = {"p50": throughput.p50_seconds, "p95": throughput.p95_seconds}
    return {title: Text(duration_text(seconds)) for title, seconds in found.items() if seconds is not None}


def running_text(in_handler: int, running: int) -> Text:
    """Running messages: those in a handler, and how many more were read ahead."""
    ahead = f" +{running - in_handler:,}" if running > in_handler else ""
    return Text.assemble((f"{in_handler:,}", "cyan" if in_handler else "dim"), (ahead, "dim"))


def number(n: int, style: str = "") -> Text:
    """A count with thousands marked; zero steps back."""
    return Text(f"{n:,}", style=style if n else "dim")
