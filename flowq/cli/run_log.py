"""What `flowq run --log-format json` shows: the words of a log, each line as whoever collects logs can read it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rich.text import Text

from flowq.cli.logs import RUN_LOGGER
from flowq.cli.run_screen import LineScreen

if TYPE_CHECKING:
    from flowq.runtime.run import Summary

log = logging.getLogger(RUN_LOGGER)


class LogScreen(LineScreen):
    """Log lines. `quiet` leaves out how far the run is, but not what the user should know of."""

    def note(self, text: str, *, hint: str = "") -> None:
        """Said in any case: nobody looks here before something is wrong."""
        log.info(text)

    def end(self, summary: Summary, *, dead_before: int, stopped: bool) -> None:
        """One line with the whole balance in it."""
        log.info("stopped" if stopped else "drained", extra={"summary": summary.as_json()})

    def _say(self, line: Text) -> None:
        if not self._quiet:
            log.info(line.plain.strip())
