"""Draws a pipeline as a tree with its numbers beside it, over and over. Values in, text out, but for the loop."""

from __future__ import annotations

from typing import IO

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from flowq.broker.inspection.overview import Overview
from flowq.cli.framework.watching import again_and_again, inspectors_of
from flowq.cli.views.overview_view import headline, row_of
from flowq.cli.views.status_screen import is_terminal, lost
from flowq.cli.views.table import console_for
from flowq.errors import BrokerUnavailable
from flowq.graph.compilation.plan import Plan
from flowq.graph.render.text import clipped
from flowq.graph.render.tree import Row, tree_rows
from flowq.settings import Settings

_COLUMNS = {"waiting": 9, "delayed": 9, "running": 9, "rate": 9, "dead": 7}
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
    """The tree, each stage with its numbers at the right. An edge on which something waits is drawn thick."""
    titles = [title for title in _COLUMNS if title != "delayed" or width >= 100]
    room = min(_WIDEST_TREE, width - 1 - sum(_COLUMNS[title] for title in titles))
    rows = tree_rows(overview.plan)
    column = 2 + max(len(row.head) for row in rows if row.stage)
    head = Text(" " * room + "".join(title.rjust(_COLUMNS[title]) for title in titles), "dim")
    return Group(headline(overview), head, *(_line(row, overview, titles, column, room) for row in rows))


def _line(row: Row, overview: Overview, titles: list[str], column: int, room: int) -> Text:
    detail = _feedback(row, overview) or "  ".join(row.details)
    line = Text(clipped(row.head, room))
    if row.edge and overview.snapshot.edges[row.edge].waiting:
        line.plain = line.plain.replace("│", "┃").replace("─▶", "━▶")
        line.stylize("yellow")
    space = room - max(column, line.cell_len + 2)
    if detail and space >= _SHORTEST_DETAIL:
        line.pad_right(max(2, column - line.cell_len))
        line.append(clipped(detail, space), "dim")
    if row.stage:
        line.pad_right(max(0, room - line.cell_len))
        cells = row_of(overview, overview.plan.stage(row.stage))
        for title in titles:
            cell = cells.get(title, Text("-", "dim"))
            line.append(" " * (_COLUMNS[title] - cell.cell_len)).append(cell)
    return line


def _feedback(row: Row, overview: Overview) -> str:
    """What came back along a feedback edge, and how much of it was new."""
    edge = overview.plan.edge_by_name.get(row.edge)
    if edge is None or not edge.feedback:
        return ""
    new = overview.snapshot.counters.get(f"in:{edge.name}", 0)
    known = overview.snapshot.counters.get(f"duplicates:{edge.name}", 0)
    return f"{new + known:,} in, {new:,} new" if new + known else ""
