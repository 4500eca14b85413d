"""Keeps a child process that imports the user's program from running it a second time."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

from flowq.errors import UsageError

HANDLER_PROCESS = "flowq-handler"
"""The name of the processes that `process=True` stages run in."""

EXIT_UNGUARDED = 79
"""The exit code of such a process that would have run the program: its parent says what to do."""

_is_importing = False


@contextmanager
def importing_program() -> Generator[None]:
    """While the user's code is imported, nothing can be opened."""
    global _is_importing
    _is_importing = True
    try:
        yield
    finally:
        _is_importing = False


def refuse_while_importing() -> None:
    """Raise UsageError in a process that is only importing the program. A handler process ends instead."""
    starter = sys.modules.get("multiprocessing.process")  # a process that has not loaded it was not started by it
    process = starter.current_process() if starter else None
    if not (_is_importing or getattr(process, "_inheriting", False)):  # as multiprocessing itself finds out
        return
    if process is not None and process.name == HANDLER_PROCESS:
        os._exit(EXIT_UNGUARDED)
    raise unguarded("a child process imports this program, and would run it a second time")


def unguarded(text: str) -> UsageError:
    """The error of a program that runs when it is imported."""
    return UsageError(text, hint='move the code that starts runs or pushes messages below  if __name__ == "__main__":')
