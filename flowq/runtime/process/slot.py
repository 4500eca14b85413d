"""A slot for a worker process: its duty, the process in it now, and the signals that this one gets."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio.subprocess import Process
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Duty:
    """The duty of one worker. By default it runs the stages, and the first worker also runs the sources."""

    quarantined: bool = False
    only_source: str = ""
    without_sources: bool = False


@dataclass(slots=True)
class Slot:
    """A slot for a worker process. `stillborn`: how many in a row died before they registered.

    `asked` is set once its process has been asked to end.
    """

    number: int
    duty: Duty = Duty()
    process: Process | None = None
    watcher: asyncio.Task[None] | None = None
    failures: int = 0
    stillborn: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> Process | None:
        """The process in it, while that lives."""
        return self.process if self.process is not None and self.process.returncode is None else None

    def ask_to_end(self) -> None:
        """Ask its process to end, once: a second signal would hurry it."""
        if not self.asked.is_set():
            self.asked.set()
            self.send(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its process, if one is running."""
        if self.running is not None:
            with contextlib.suppress(ProcessLookupError):
                self.running.send_signal(number)
