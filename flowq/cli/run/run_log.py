"""What `flowq run --log-format json` shows: the words of a log, each line as whoever collects logs can read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from flowq.cli.framework.logs import tell
from flowq.cli.views.run_screen import LineScreen

if TYPE_CHECKING:
    from flowq.runtime.run import Summary


class LogScreen(LineScreen):
    """Log lines. `quiet` leaves out how far the run is, but not what the user should know of."""

    def note(self, text: str, *, hint: str = "") -> None:
        """Said in any case: nobody looks here before something is wrong."""
        tell(text)

    def end(self, summary: Summary, *, dead_before: int, stopped: bool) -> None:
        """One line with the whole balance in it."""
        tell("stopped" if stopped else "drained", summary=summary.as_json())

    def _say(self, line: Text) -> None:
        if not self._quiet:
            tell(line.plain.strip())
