"""What `flowq run` writes where nothing is painted: lines for a log, or JSON for a program. Values in, text out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from flowq.broker.inspection.throughput import Throughput
from flowq.broker.records import Snapshot
from flowq.cli.framework.logs import tell
from flowq.cli.views.retry_lines import RetryNews, RetryNote, retry_notes
from flowq.cli.views.run_progress import Pacer, Progress, ProgressMeter
from flowq.cli.views.run_text import RunAbout, end_lines, first_lines, phase, progress_line
from flowq.graph.compilation.plan import Plan
from flowq.printable import json_text, printable

if TYPE_CHECKING:
    from flowq.broker.inspection.overview import Overview
    from flowq.runtime.run import Summary

_JSON_MS, _LINE_MS, _NEW_PHASE_MS = 1000, 5000, 1000


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
