"""What `flowq status --watch` and `flowq top` paint: an overview, workers, the slowest messages, dead letters, keys."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.table import Table
from rich.text import Text

from flowq.broker.inspection.edge_stats import RunningMessage
from flowq.broker.inspection.overview import Overview
from flowq.broker.inspection.throughput import HISTORY_SECONDS
from flowq.broker.inspection.worker_overview import WorkerOverview
from flowq.cli.views.overview_view import overview_text
from flowq.cli.views.run_text import settled
from flowq.cli.views.table import Column, fitted_table, indented, number, running_text
from flowq.dead_letters.letter import DeadLetterGroup
from flowq.durations import duration_text
from flowq.printable import printable
from flowq.wording.quantities import span_words

_WIDE = 150
_MOST_SAMPLES = 60
_MOST_DEAD_WORKERS = 3

Sized = Callable[[int], RenderableType]
"""A part of the screen, for any width."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One pipeline at one time. `dead` is None while dead letters are not shown."""

    overview: Overview
    dead: Sequence[DeadLetterGroup] | None
    by_shard: bool = False


class Trends:
    """The speed of every stage over time, starting with what Redis remembers."""

    def __init__(self) -> None:
        self._speeds: dict[str, deque[float]] = {}
        self._before: tuple[int, Mapping[str, int]] | None = None

    def add(self, overview: Overview) -> None:
        """Record the speeds since the previous overview."""
        now_ms = overview.snapshot.now_ms
        done = {name: settled(stage.balance) for name, stage in overview.stages.items()}
        if self._before is None:
            self._speeds = {
                name: deque((n for n in stage.throughput.history for _ in range(HISTORY_SECONDS)), _MOST_SAMPLES)
                for name, stage in overview.stages.items()
            }
        elif (passed_ms := now_ms - self._before[0]) > 0:
            for name, n in done.items():
                self._speeds[name].append(max(0, n - self._before[1][name]) * 1000 / passed_ms)
        self._before = now_ms, done

    def of(self, stage: str, cells: int) -> Sequence[float]:
        """The latest speeds of a stage, as many as there are cells."""
        return list(self._speeds[stage])[-cells:]


def screen(parts: Sequence[RenderableType], keys: Text) -> RenderableType:
    """The whole screen. Parts that do not fit are cut off, but never the last line with the keys."""
    whole = Layout()
    whole.split_column(Layout(Group(*parts)), Layout(keys, size=1))
    return whole


def live_text(overview: Overview, width: int) -> RenderableType:
    """One of several pipelines on the whole screen."""
    speeds = {name: stage.throughput.history for name, stage in overview.stages.items()}
    return overview_text(overview, width, speeds=speeds)


def pipeline_parts(sight: Sight, trends: Trends, *, order: str, width: int) -> list[RenderableType]:
    """One pipeline on the whole screen, the stages sorted by `order`."""
    cells = 10 if width < 130 else 20 if width < _WIDE else 40
    overview = sight.overview
    speeds = {stage.name: trends.of(stage.name, cells) for stage in overview.plan.stages}
    text = overview_text(overview, width, speeds=speeds, cells=cells, order=order, by_shard=sight.by_shard)
    parts: list[RenderableType] = [text, Text("")]
    if sight.dead is not None:
        parts += [_dead(sight.dead, width), Text("")]
    workers, slowest = _workers(overview), _slowest(overview.slowest)
    if width < _WIDE:
        return [*parts, workers(width), Text(""), slowest(width)]
    side_by_side = Table.grid(padding=(0, 2, 0, 0))
    side_by_side.add_row(workers(width // 2 - 2), slowest(width - width // 2))
    return [*parts, side_by_side]


def _workers(overview: Overview) -> Sized:
    columns = (
        Column("workers", is_text=True, worth=99),
        Column("running", worth=9),
        Column("slots", worth=8),
        Column("up", worth=6),
        Column("lease", worth=5),
        Column("", is_text=True, worth=10, flexible=True),
    )
    rows = [_worker_row(worker) for worker in overview.workers.values()]
    for dead in overview.dead_workers[:_MOST_DEAD_WORKERS]:
        died = "" if dead.at_ms is None else f"{span_words((overview.now_ms - dead.at_ms) / 1000)} ago: "
        cells = [Text(printable(dead.name), "dim"), *[Text("")] * 4, Text(f"{died}{printable(dead.how)}", "red")]
        rows.append(cells)
    return _table(columns, rows, "no worker is running")


def _worker_row(worker: WorkerOverview) -> list[Text]:
    running = sum(worker.running.values())
    in_handler = running if worker.in_handler is None else sum(worker.in_handler.values())
    if worker.is_silent:
        last = Text(f"has read nothing for {duration_text(worker.silent_seconds)}", "bold red")
    else:
        last = Text(printable(", ".join(worker.stages)) or "sources", "dim")
    return [
        Text(printable(worker.name)),
        running_text(in_handler, running),
        number(sum(worker.slots.values())),
        _duration(worker.uptime_seconds),
        _duration(worker.lease_left_seconds),
        last,
    ]


def _duration(seconds: float | None) -> Text:
    return Text("-" if seconds is None else duration_text(round(seconds)), "dim")


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
            Text(duration_text(message.seconds), "yellow" if message.seconds >= 10 else ""),
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
