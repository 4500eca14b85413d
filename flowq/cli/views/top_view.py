"""What `flowq top` paints: the stages with their trend, the workers, the slowest messages, dead letters, the keys."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.table import Table
from rich.text import Text

from flowq.broker.inspection.edge_stats import RunningMessage
from flowq.broker.inspection.overview import Overview, StageOverview
from flowq.cli.views.overview_view import TITLES, headline, notes, row_of, sampled
from flowq.cli.views.quantities import brief
from flowq.cli.views.run_text import settled
from flowq.cli.views.table import Column, fitted_table, indented, number, stage_table
from flowq.dead_letters.letter import DeadLetterGroup
from flowq.printable import printable

_NARROW, _WIDE = 120, 150
_NARROW_TITLES = ("stage", "ok", "dead", "waiting", "delayed", "running", "rate", "p95", "trend")
_TITLES = tuple(title for title in TITLES if title not in ("dup", "out"))
_MOST_SAMPLES = 60

Sized = Callable[[int], RenderableType]
"""A part of the screen, for any width."""

ORDERS = ("pipeline", "waiting", "running", "dead", "rate", "p95")
"""What the stages can be sorted by."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look has shown. `dead` is None when nobody asked for dead letters."""

    overview: Overview
    slowest: Sequence[RunningMessage]
    dead: Sequence[DeadLetterGroup] | None


class Trends:
    """The speed of every stage from look to look, begun with what Redis remembers."""

    def __init__(self) -> None:
        self._speeds: dict[str, deque[float]] = {}
        self._before: tuple[int, Mapping[str, int]] | None = None

    def add(self, overview: Overview) -> None:
        """Take in the next look."""
        now_ms = overview.snapshot.now_ms
        done = {name: settled(stage.balance) for name, stage in overview.stages.items()}
        if self._before is None:
            self._speeds = {
                name: deque(sampled(stage.throughput.history), _MOST_SAMPLES) for name, stage in overview.stages.items()
            }
        elif (passed_ms := now_ms - self._before[0]) > 0:
            for name, n in done.items():
                self._speeds[name].append(max(0, n - self._before[1][name]) * 1000 / passed_ms)
        self._before = now_ms, done

    def of(self, stage: str, cells: int) -> Sequence[float]:
        """The latest speeds of a stage, as many as there are cells."""
        return list(self._speeds[stage])[-cells:]


def screen(sight: Sight, trends: Trends, *, order: str, keys: Text, width: int) -> RenderableType:
    """The whole screen. What does not fit in height is cut off, but never the last line with the keys."""
    overview = sight.overview
    parts: list[RenderableType] = [headline(overview), Text("")]
    parts += [_stages(overview, trends, order, width), *notes(overview), Text("")]
    if sight.dead is not None:
        parts += [_dead(sight.dead, width), Text("")]
    parts += _below(_workers(overview), _slowest(sight.slowest), width)
    whole = Layout()
    whole.split_column(Layout(Group(*parts)), Layout(keys, size=1))
    return whole


def _stages(overview: Overview, trends: Trends, order: str, width: int) -> RenderableType:
    cells = 10 if width < 95 else 20 if width < _WIDE else 40
    stages = list(overview.plan.stages)
    if order != ORDERS[0]:
        stages.sort(key=lambda stage: -_measure(overview.stages[stage.name], order))
    rows = [row_of(overview, stage, trend=trends.of(stage.name, cells)) for stage in stages]
    for row in rows:
        row["trend"] = Text(row["trend"].plain.rjust(cells) if "trend" in row else " " * cells, "cyan")
    return indented(stage_table(_NARROW_TITLES if width < _NARROW else _TITLES, rows, width - 1))


def _measure(stage: StageOverview, order: str) -> float:
    match order:
        case "rate":
            return stage.throughput.per_second or 0
        case "p95":
            return stage.throughput.p95_seconds or 0
        case _:
            return float(getattr(stage.balance, order))


def _below(workers: Sized, slowest: Sized, width: int) -> list[RenderableType]:
    """Beside each other where there is room, else one below the other."""
    if width < _WIDE:
        return [workers(width), Text(""), slowest(width)]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_row(workers(width // 2 - 2), slowest(width - width // 2))
    return [grid]


def _workers(overview: Overview) -> Sized:
    columns = (
        Column("workers", is_text=True, worth=99),
        Column("running", worth=8),
        Column("stages", is_text=True, flexible=True),
    )
    rows: list[Sequence[Text]] = []
    for worker, facts in overview.workers.items():
        held = sum(edge.held.get(worker, 0) for edge in overview.edges.values())
        stages = ", ".join(facts.get("stages", ()))
        rows.append((Text(printable(worker)), number(held, "cyan"), Text(printable(stages), "dim")))
    return _table(columns, rows, "no worker is running")


def _slowest(messages: Sequence[RunningMessage]) -> Sized:
    columns = (
        Column("running longest", is_text=True, worth=99),
        Column("for", worth=98),
        Column("worker", is_text=True, worth=5),
        Column("message", is_text=True, worth=6),
        Column("", is_text=True, flexible=True),
    )
    rows = [
        (
            Text(message.stage),
            Text(brief(message.seconds), "yellow" if message.seconds >= 10 else ""),
            Text(printable(message.worker), "dim"),
            Text(printable(message.message_id), "dim"),
            Text(printable(message.beginning.decode(errors="replace")), "dim"),
        )
        for message in messages
    ]
    return _table(columns, rows, "nothing has been running for half a second")


def _dead(groups: Sequence[DeadLetterGroup], width: int) -> RenderableType:
    columns = (
        Column("dead letters", is_text=True, worth=99),
        Column("count", worth=98),
        Column("last", worth=8),
        Column("error", is_text=True, worth=97, flexible=True),
    )
    rows = [
        (
            Text(group.stage),
            number(group.count, "bold red"),
            Text(group.last_died_at.astimezone().strftime("%H:%M:%S"), "dim"),
            Text(printable(group.error)),
        )
        for group in groups
    ]
    return _table(columns, rows, "none")(width)


def _table(columns: Sequence[Column], rows: Sequence[Sequence[Text]], empty: str) -> Sized:
    def sized(width: int) -> RenderableType:
        if rows:
            return indented(fitted_table(columns, rows, width - 1))
        return Text(f" {columns[0].title}\n {empty}", "dim")

    return sized
