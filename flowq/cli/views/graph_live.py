"""Draws a pipeline as a tree with its numbers beside it, over and over. Values in, text out, but for the loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from flowq.broker.inspection.overview import Overview
from flowq.cli.framework.watching import again_and_again, inspectors_of
from flowq.cli.views.cause_cells import forecast_text
from flowq.cli.views.overview_view import headline, row_of
from flowq.cli.views.shards_view import shard_notes
from flowq.cli.views.status_screen import is_terminal, lost
from flowq.cli.views.table import console_for
from flowq.errors import BrokerUnavailable
from flowq.graph.compilation.plan import Plan
from flowq.graph.render.text import clipped
from flowq.graph.render.tree import Row, tree_rows
from flowq.settings import Settings

_COLUMNS = {"forecast": 14, "waiting": 9, "delayed": 9, "running": 9, "rate": 9, "dead": 7}
_NARROW_COLUMNS = {"forecast": 13, "waiting": 8, "rate": 8, "dead": 6}
_WIDE = 100
_CAUSE_CELLS = 20
_WIDEST_TREE = 70
_SHORTEST_DETAIL = 4


async def show_graph(plan: Plan, settings: Settings, file: IO[str]) -> None:
    """Over and over on a terminal, until Ctrl-C; once elsewhere."""
    console = console_for(file)
    last: RenderableType = Text("")
    async with inspectors_of([plan], settings) as (inspector,):
        if not is_terminal(file):
            console.print(drawing(await inspector.overview(), console.width))
            return
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            async for seen in again_and_again(inspector.overview):
                if isinstance(seen, BrokerUnavailable):
                    live.update(Group(last, lost(seen)), refresh=True)
                else:
                    live.update(last := drawing(seen, console.width), refresh=True)


def drawing(overview: Overview, width: int) -> RenderableType:
    """The tree; right of it the cause of each stage, the forecast of each edge, and the numbers.

    An edge on which something waits is drawn thick.
    """
    columns = _COLUMNS if width >= _WIDE else _NARROW_COLUMNS
    room = min(_WIDEST_TREE, width - 1 - sum(columns.values()))
    rows = tree_rows(overview.plan)
    column = min(2 + max(len(row.head) for row in rows if row.stage), room - _CAUSE_CELLS)
    head = Text(" " * room + "".join(title.rjust(cells) for title, cells in columns.items()), "dim")
    notes = shard_notes(overview.shards) if overview.shards is not None else []
    return Group(headline(overview), head, *(_line(row, overview, columns, column, room) for row in rows), *notes)


def _line(row: Row, overview: Overview, columns: Mapping[str, int], column: int, room: int) -> Text:
    line = Text(clipped(row.head, column - 2 if row.stage else room))
    if row.edge and overview.snapshot.edges[row.edge].waiting:
        line.plain = line.plain.replace("│", "┃").replace("─▶", "━▶")
        line.stylize("yellow")
    details = [Text(text, "dim") for text in (_feedback(row, overview) or "  ".join(row.details),) if text]
    cells: dict[str, Text] = {}
    if row.stage:
        cells = row_of(overview, overview.plan.stage(row.stage))
        details.insert(0, cells["cause"])
    if details and room - line.cell_len - 2 >= _SHORTEST_DETAIL:
        line.pad_right(max(2, column - line.cell_len))
        line.append(Text("  ").join(details))
        line.truncate(room, overflow="ellipsis")
    if row.edge in overview.forecasts:
        cells["forecast"] = forecast_text(overview.forecasts[row.edge])
    elif row.edge:
        cells.pop("forecast", None)
    if not cells:
        return line
    line.pad_right(max(0, room - line.cell_len))
    for title in columns if row.stage else ["forecast"]:
        cell = cells.get(title, Text("-", "dim"))
        line.append(" " * (columns[title] - cell.cell_len)).append(cell)
    return line


def _feedback(row: Row, overview: Overview) -> str:
    """What came back along a feedback edge, and how much of it was new."""
    edge = overview.plan.edge_by_name.get(row.edge)
    if edge is None or not edge.feedback:
        return ""
    new = overview.snapshot.counters.get(f"in:{edge.name}", 0)
    known = overview.snapshot.counters.get(f"duplicates:{edge.name}", 0)
    return f"{new + known:,} in, {new:,} new" if new + known else ""
