"""How a process is told to stop, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

from flowq.runtime.handlers.streams import flush_and_discard


class StopSignals:
    """Counts requests to stop. The first asks for an orderly end, the second for a quick one.

    Install it before anything is read, so that an earlier signal loses nothing.
    """

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.hurry = asyncio.Event()
        self.received: list[signal.Signals] = []

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.request, number)

    def request(self, number: signal.Signals) -> None:
        self.received.append(number)
        if self.requested.is_set():
            self.hurry.set()
        self.requested.set()

    @property
    def exit_code(self) -> int:
        """The exit code of a run that was stopped: an orderly SIGTERM is a success, Ctrl-C and force are not."""
        if signal.SIGINT in self.received:
            return 130
        return 143 if len(self.received) > 1 else 0

    def follow(self, descriptor: int, *, patience_seconds: float) -> None:
        """Stop when the process at the other end of this pipe is gone, by force after `patience_seconds`.

        Nothing else would end this process then, even if its loop is blocked or Redis does not reply.
        """
        loop = asyncio.get_running_loop()

        def watch() -> None:
            while os.read(descriptor, 4096):
                pass
            loop.call_soon_threadsafe(self.request, signal.SIGTERM)
            time.sleep(patience_seconds)
            os._exit(128 + signal.SIGTERM)

        threading.Thread(target=watch, name="flowq-parent", daemon=True).start()


def leave(exit_code: int) -> None:
    """End the process at once, even if handlers still run in threads: their messages have been handed back."""
    flush_and_discard()
    os._exit(exit_code)
