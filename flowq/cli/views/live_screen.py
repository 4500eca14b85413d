"""What `flowq run` shows on a terminal: a table of the stages that is painted over and over."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flowq.broker.inspection.overview import Overview
from flowq.broker.records import Snapshot
from flowq.cli.framework.logs import follow_streams
from flowq.cli.views.cause_cells import outlook_cells
from flowq.cli.views.line_screen import LineScreen
from flowq.cli.views.retry_lines import RetryNote, count_lines
from flowq.cli.views.run_progress import Pacer, Progress
from flowq.cli.views.run_text import RunAbout, feedback_lines, phase, settled
from flowq.cli.views.table import indented, number, speed_cells, stage_cells, stage_table
from flowq.durations import duration_text
from flowq.graph.compilation.plan import Plan
from flowq.printable import printable
from flowq.wording.quantities import rate_words

if TYPE_CHECKING:
    from flowq.runtime.run import Summary

HOW_TO_STOP = "Ctrl-C: stop after running messages"
_TITLES = (
    "stage", "cause", "slots", "in", "ok", "filtered", "dead", "waiting", "delayed", "running", "retries", "rate",
    "p95", "forecast",
)  # fmt: skip
_PICTURE_MS = 100
_MOST_ERRORS = 3
_BELOW = " " * len("retry  ")
_SHORTEST_BAR, _LONGEST_BAR = 8, 40


class LiveScreen(LineScreen):
    """A table that is painted over and over, and leaves only how it ended."""

    wants_overview = True

    def __init__(self, plan: Plan, console: Console, *, redirect_stdout: bool) -> None:
        super().__init__(plan, console, quiet=False)
        self._pace = Pacer(_PICTURE_MS)
        self._hint = HOW_TO_STOP
        self.print_lines = self._print_lines
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=redirect_stdout,
            vertical_overflow="crop",
        )

    def begin(self, about: RunAbout) -> None:
        super().begin(about)
        before = sys.stderr, sys.stdout
        self._live.start()
        follow_streams(dict(zip(before, (sys.stderr, sys.stdout), strict=True)))

    def update(self, snapshot: Snapshot, overview: Overview | None = None) -> None:
        progress = self._meter.read(snapshot, overview)
        self._tell_retries(self._retries.read(snapshot))
        if self._pace.is_due(snapshot.now_ms):
            self._live.update(self._picture(progress), refresh=True)

    def note(self, text: str, *, hint: str = "") -> None:
        self._hint = hint or self._hint
        self._console.print(Text(f"  {printable(text)}", style="yellow"))

    def _print_lines(self, lines: Sequence[str]) -> None:
        text = Text("\n").join(Text.from_ansi(line) for line in lines)
        self._console.print(text, soft_wrap=True)

    def end(self, summary: Summary, *, dead_before: int, stopped: bool) -> None:
        self.close()
        self._console.print()
        super().end(summary, dead_before=dead_before, stopped=stopped)

    def close(self) -> None:
        self._live.stop()

    def _print(self, line: Text) -> None:
        self._console.print(line)

    def _tell_retries(self, notes: Sequence[RetryNote]) -> None:
        for note in notes:
            for line in textwrap.wrap(str(note), self._console.width, subsequent_indent=_BELOW, break_on_hyphens=False):
                self._print(Text(line, "yellow"))

    def _picture(self, progress: Progress) -> RenderableType:
        width = self._console.width - 1
        below = count_lines(self._plan, progress.snapshot, width, most=_MOST_ERRORS)
        below += feedback_lines(self._plan, progress.snapshot)
        room = max(1, self._console.height - len(below) - 5)
        rows = [self._row(name, progress) for name in progress.balances]
        if len(rows) > room:
            below.insert(0, Text(f" and {len(rows) - room} more stages", style="dim"))
            rows = rows[:room]
        table = indented(stage_table(_TITLES, rows, width))
        return Group(Text(""), table, *below, Text(""), self._footer(progress, width))

    def _row(self, name: str, progress: Progress) -> dict[str, Text]:
        stage, balance = self._plan.stage(name), progress.balances[name]
        cells = stage_cells(stage, balance)
        rate = progress.rates[name]
        if not stage.is_source or name in progress.snapshot.open_sources:
            cells["rate"] = Text(rate_words(rate), style="" if rate else "dim")
        elif f"source:{name}" in progress.snapshot.run:
            cells["rate"] = Text("done", style="dim")
        if not stage.is_source:
            processes = max(1, self._about.workers if self._about else 1)
            cells["slots"] = number(stage.concurrency * processes)
        if progress.overview is not None:
            cells |= speed_cells(progress.overview.stages[name].throughput)
            if progress.overview.workers and not self._is_stopping:
                cells |= outlook_cells(progress.overview, stage)
        if self._about and self._about.stages and name not in self._about.stages:
            cells["stage"].stylize("dim")  # other processes run it, or none does
        return cells

    def _footer(self, progress: Progress, width: int) -> RenderableType:
        left = progress.snapshot.outstanding
        done = sum(settled(progress.balances[stage.name]) for stage in self._plan.consumers)
        drains = self._about is not None and self._about.drains
        counts = f"{done:,} of {done + left:,} known" if drains else f"{done:,} done, {left:,} left"
        if (now := phase(progress.snapshot, is_stopping=self._is_stopping)) == "starting":
            counts = now
        elif now == "stopping":
            counts = f"stopping  {counts}"
        words = [
            Text(counts),
            Text(duration_text(int(progress.passed_seconds)), style="dim"),
            Text(self._hint, style="dim"),
        ]
        needed = sum(word.cell_len + 2 for word in words)
        if needed > width:
            needed -= words.pop().cell_len + 2
        grid = Table.grid(padding=(0, 2, 0, 0))
        cells: list[RenderableType] = list(words)
        if drains and width - needed - 2 >= _SHORTEST_BAR:
            bar_width = min(_LONGEST_BAR, width - needed - 2)
            bar = ProgressBar(max(1, done + left), done, bar_width, complete_style="green")
            cells.insert(0, bar)
        grid.add_row(*cells)
        return Padding(grid, (0, 0, 0, 1), expand=False)
