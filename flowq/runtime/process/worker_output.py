"""A pipe for what worker processes print, where a screen is painted that their lines would destroy."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable, Sequence

PrintLines = Callable[[Sequence[str]], None]

_EVERY_SECONDS = 0.05
_PIPE_BYTES = 1 << 20
_LONGEST_LINE = 1 << 16


class WorkerOutput:
    """Passes lines on, some at a time: each time costs a painting. `fd` is what workers print to.

    Of a line that is written over and over with carriage returns, only the last state is passed on.
    """

    def __init__(self, print_lines: PrintLines) -> None:
        self._print_lines = print_lines
        self._loop = asyncio.get_running_loop()
        self._pipe, self.fd = os.pipe()
        self._rest = b""
        os.set_blocking(self._pipe, False)
        with contextlib.suppress(AttributeError, OSError):  # not on Linux, or more than this user may have
            fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._loop.add_reader(self._pipe, self._read_soon)

    def close(self) -> None:
        """Pass on what is left. What still prints then is not read any more."""
        self._loop.remove_reader(self._pipe)
        self._read()
        if self._rest:
            self._print_lines([_shown(self._rest)])
        os.close(self._pipe)
        os.close(self.fd)
        self._pipe = -1

    def _read_soon(self) -> None:
        self._loop.remove_reader(self._pipe)
        self._loop.call_later(_EVERY_SECONDS, self._read_on)

    def _read_on(self) -> None:
        if self._pipe != -1:
            self._read()
            self._loop.add_reader(self._pipe, self._read_soon)

    def _read(self) -> None:
        try:
            data = self._rest + os.read(self._pipe, _PIPE_BYTES)
        except BlockingIOError:
            return
        *lines, self._rest = data.split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        if lines:
            self._print_lines([_shown(line) for line in lines])


def _shown(line: bytes) -> str:
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "backslashreplace")
