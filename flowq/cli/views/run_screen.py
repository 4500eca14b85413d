"""What `flowq run` shows, and where: lines in a log, JSON for a program, on a terminal a live table."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Protocol

from flowq.broker.records import Snapshot
from flowq.cli.views.line_screen import JsonScreen, LineScreen, LogScreen
from flowq.cli.views.run_text import RunAbout
from flowq.cli.views.table import console_for
from flowq.graph.compilation.plan import Plan

if TYPE_CHECKING:
    from flowq.broker.inspection.overview import Overview
    from flowq.runtime.run import Summary

__all__ = ["RunAbout", "Screen", "choose_screen"]


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
    from flowq.cli.views.live_screen import LiveScreen  # nothing else needs what it draws with

    return LiveScreen(plan, console, redirect_stdout=stdout.isatty())
