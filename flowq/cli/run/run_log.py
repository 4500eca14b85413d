"""What `flowq run --log-format json` shows: log lines for log collectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from flowq.cli.framework.logs import tell
from flowq.cli.views.run_screen import LineScreen

if TYPE_CHECKING:
    from flowq.runtime.run import Summary


class LogScreen(LineScreen):
    """Log lines. `quiet` leaves out progress, but not warnings."""

    def note(self, text: str, *, hint: str = "") -> None:
        """Logged in any case, `quiet` or not."""
        tell(text)

    def end(self, summary: Summary, *, dead_before: int, stopped: bool) -> None:
        """One line with the whole balance in it."""
        tell("stopped" if stopped else "drained", summary=summary.as_json())

    def _say(self, line: Text) -> None:
        if not self._quiet:
            tell(line.plain.strip())
