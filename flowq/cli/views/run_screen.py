"""What `flowq run` shows: a live table on a terminal, lines in a log, JSON for a program. Values in, text out."""

from __future__ import annotations

import os
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flowq.broker.inspection.overview import Overview
from flowq.broker.inspection.throughput import Throughput
from flowq.broker.records import Snapshot
from flowq.cli.framework.logs import follow_streams, tell
from flowq.cli.views.cause_cells import outlook_cells
from flowq.cli.views.retry_lines import RetryNews, RetryNote, count_lines, retry_notes
from flowq.cli.views.run_progress import Pacer, Progress, ProgressMeter
from flowq.cli.views.run_text import (
    RunAbout,
    end_lines,
    feedback_lines,
    first_lines,
    phase,
    progress_line,
    settled,
)
from flowq.cli.views.table import console_for, indented, number, speed_cells, stage_cells, stage_table
from flowq.durations import duration_text
from flowq.graph.compilation.plan import Plan
from flowq.printable import json_text, printable
from flowq.wording.quantities import rate_words

if TYPE_CHECKING:
    from flowq.runtime.run import Summary

__all__ = ["RunAbout", "Screen", "choose_screen"]

HOW_TO_STOP = "Ctrl-C: stop after running messages"
_TITLES = (
    "stage", "cause", "slots", "in", "ok", "filtered", "dead", "waiting", "delayed", "running", "retries", "rate",
    "p95", "forecast",
)  # fmt: skip
_PICTURE_MS, _JSON_MS, _LINE_MS, _NEW_PHASE_MS = 100, 1000, 5000, 1000
_MOST_ERRORS = 3
_BELOW = " " * len("retry  ")
_SHORTEST_BAR, _LONGEST_BAR = 8, 40


class Screen(Protocol):
    """The output of a run for its user or program. No call waits, and none asks Redis."""

    def begin(self, about: RunAbout) -> None:
        """Say at once what will run, and until when."""
        ...

    @property
    def wants_overview(self) -> bool:
        """Whether it shows handler durations, causes and forecasts. If not, Redis is not asked for them."""
        ...

    def update(self, snapshot: Snapshot, overview: Overview | None = None) -> None:
        """Show the state of the pipeline. May be called at any rate."""
        ...

    @property
    def print_lines(self) -> Callable[[Sequence[str]], None] | None:
        """Prints lines of workers above what is painted; None where nothing is, and they print themselves."""
        ...

    def note(self, text: str, *, hint: str = "") -> None:
        """Show an event. `hint` replaces what Ctrl-C was said to do."""
        ...

    def end(self, summary: Summary, *, dead_before: int, stopped: bool) -> None:
        """Show how it ended; `dead_before` of the dead letters in the summary were there when it began."""
        ...

    def stopping(self) -> None:
        """From now on the workers stop, for whatever reason."""
        ...

    def close(self) -> None:
        """Restore the terminal when a run fails before its end. Does nothing after `end`."""
        ...


def choose_screen(
    plan: Plan, *, json: bool, quiet: bool, stdout: IO[str], stderr: IO[str], log_format: str = "text"
) -> Screen:
    """The screen that suits the user's flags and where the output goes; `quiet` leaves only the end."""
    console = console_for(stderr)
    if json:
        return JsonScreen(plan, stdout, console, quiet=quiet)
    if log_format == "json":
        return LogScreen(plan, console, quiet=quiet)
    if quiet or not stderr.isatty() or os.environ.get("TERM") == "dumb":
        return LineScreen(plan, console, quiet=quiet)
    return LiveScreen(plan, console, redirect_stdout=stdout.isatty())


class LineScreen:
    """Lines for a log: every few seconds if something has changed, and whenever the run enters another phase."""

    wants_overview = False
    print_lines: Callable[[Sequence[str]], None] | None = None

    def __init__(self, plan: Plan, console: Console, *, quiet: bool) -> None:
        self._plan = plan
        self._console = console
        self._quiet = quiet
        self._meter = ProgressMeter(plan)
        self._pace = Pacer(_LINE_MS)
        self._retries = RetryNews(plan)
        self._phase = ""
        self._said = ""
        self._is_stopping = False
        self._about: RunAbout | None = None

    def begin(self, about: RunAbout) -> None:
        self._about = about
        self._retries.begin(about.failures)
        for line in first_lines(about, self._plan, self._console.width):
            self._say(line)

    def update(self, snapshot: Snapshot, overview: Overview | None = None) -> None:
        progress = self._meter.read(snapshot, overview)
        self._tell_retries(self._retries.read(snapshot))
        # A run that waits for work changes its phase with every message: one line a second is enough of that.
        now = phase(snapshot, is_stopping=self._is_stopping)
        if self._pace.is_due(snapshot.now_ms, after_ms=None if now == self._phase else _NEW_PHASE_MS):
            self._phase, said = now, self._said
            self._said = progress_line(self._plan, snapshot, now, progress.balances, {}, 0.0)
            if self._said != said:  # apart from the time and the rates
                passed = progress.passed_seconds
                self._say(Text(progress_line(self._plan, snapshot, now, progress.balances, progress.rates, passed)))

    def note(self, text: str, *, hint: str = "") -> None:
        self._say(Text(printable(text)))

    def end(self, summary: Summary, *, dead_before: int, stopped: bool) -> None:
        self._tell_retries(self._retries.rest())
        width, stays = self._console.width, self._about is None or self._about.stays
        for line in end_lines(self._plan, summary, dead_before=dead_before, stopped=stopped, width=width, stays=stays):
            self._print(line)

    def stopping(self) -> None:
        self._is_stopping = True

    def close(self) -> None:
        """Nothing is held."""

    def _tell_retries(self, notes: Sequence[RetryNote]) -> None:
        for note in notes:
            self._say(Text(str(note), "yellow"))

    def _say(self, line: Text) -> None:
        if not self._quiet:
            self._print(line)

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)


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


class LogScreen(LineScreen):
    """The same lines as JSON, for `--log-format json`. `quiet` leaves out progress, but not notes."""

    def note(self, text: str, *, hint: str = "") -> None:
        tell(text)

    def end(self, summary: Summary, *, dead_before: int, stopped: bool) -> None:
        self._tell_retries(self._retries.rest())
        tell("stopped" if stopped else "drained", summary=summary.as_json())

    def _tell_retries(self, notes: Sequence[RetryNote]) -> None:
        for note in notes:
            tell(str(note), **note.as_json())

    def _say(self, line: Text) -> None:
        if not self._quiet:
            tell(line.plain.strip())


class JsonScreen(LineScreen):
    """Words as in a log, but the numbers as JSON on stdout: an object a second, and the summary last."""

    def __init__(self, plan: Plan, stdout: IO[str], console: Console, *, quiet: bool) -> None:
        super().__init__(plan, console, quiet=quiet)
        self._stdout = stdout
        self._pace = Pacer(_JSON_MS)
        self.wants_overview = not quiet

    def update(self, snapshot: Snapshot, overview: Overview | None = None) -> None:
        progress = self._meter.read(snapshot, overview)
        self._tell_retries(self._retries.read(snapshot))
        if not self._quiet and self._pace.is_due(snapshot.now_ms):
            self._write(self._tick(progress))

    def end(self, summary: Summary, *, dead_before: int, stopped: bool) -> None:
        self._tell_retries(self._retries.rest())
        self._write(summary.as_json())

    def _tick(self, progress: Progress) -> dict[str, object]:
        snapshot, overview = progress.snapshot, progress.overview
        errors: defaultdict[str, list[object]] = defaultdict(list)
        for note in retry_notes(self._plan, snapshot):
            errors[note.stage].append(note.as_json())
        return {
            "pipeline": self._plan.name,
            "run": snapshot.run.get("id", ""),
            "phase": phase(snapshot, is_stopping=self._is_stopping),
            "seconds": round(progress.passed_seconds, 3),
            "left": snapshot.outstanding,
            "paused": list(snapshot.paused),
            "workers": len(snapshot.workers),
            "stages": {
                name: {
                    **balance.as_json(),
                    **(overview.stages[name].throughput if overview else Throughput()).as_json(),
                    "rate": round(progress.rates[name], 1),
                    "cause": overview.causes[name].as_json() if overview else None,
                    "errors": errors[name],
                }
                for name, balance in progress.balances.items()
            },
        }

    def _write(self, value: object) -> None:
        print(json_text(value), file=self._stdout, flush=True)
