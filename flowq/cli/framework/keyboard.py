"""Single keys from a terminal, without Enter and without an echo."""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any, Self


class Keyboard:
    """Tells `pressed` each key while a `with` block runs, and leaves the terminal as it was. Ctrl-C stays what it is.

    Does nothing where `file` is no terminal.
    """

    def __init__(self, file: IO[str], pressed: Callable[[str], None]) -> None:
        self._pressed = pressed
        self._fd = file.fileno() if file.isatty() else None
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        if self._fd is not None:
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
            asyncio.get_running_loop().add_reader(self._fd, self._read, self._fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def _read(self, fd: int) -> None:
        keys = os.read(fd, 64).decode(errors="ignore")
        if not keys:  # the terminal has gone: it would be readable for ever
            asyncio.get_running_loop().remove_reader(fd)
        elif not keys.startswith("\x1b"):  # an arrow or a function key is several characters, and none of ours
            for key in keys:
                self._pressed(key)
