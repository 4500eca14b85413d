"""A terminal of a certain size that runs a command: its screen, and keys pressed in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyte

LONGEST_SECONDS = 120.0


class Terminal:
    """Runs a command in a pseudo-terminal and keeps the screen that it paints; a `with` block ends the command."""

    def __init__(
        self, command: Sequence[str], folder: Path, environ: dict[str, str], *, columns: int = 80, lines: int = 24
    ) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.popen = subprocess.Popen(
            command,
            cwd=folder,
            env={**environ, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
        )
        os.close(theirs)
        self.raw = b""

    @property
    def text(self) -> str:
        """The text on the screen."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def cells(self) -> list[list[pyte.screens.Char]]:
        """The screen as it is painted: for each line its characters, with their colours."""
        screen = self._screen
        return [[screen.buffer[line][column] for column in range(screen.columns)] for line in range(screen.lines)]

    @property
    def lines(self) -> list[str]:
        """The lines that are not empty."""
        return [line for line in self.text.splitlines() if line]

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows what is typed, as it did at first."""
        return bool(termios.tcgetattr(self._fd)[3] & termios.ECHO)

    def press(self, keys: str) -> None:
        """Type something; ^C as \\x03."""
        os.write(self._fd, keys.encode())

    def wait_for(self, condition: Callable[[str], object], *, seconds: float = LONGEST_SECONDS) -> str:
        """Read until the screen is as wanted; its text."""
        deadline = time.monotonic() + seconds
        while not condition(self.text):
            assert time.monotonic() < deadline, f"not seen within {seconds:g} s; the screen:\n{self.text}"
            self._read(0.1)
        return self.text

    def wait(self, seconds: float = LONGEST_SECONDS) -> int:
        """Read until the command has ended; its exit code."""
        deadline = time.monotonic() + seconds
        while self.popen.poll() is None:
            assert time.monotonic() < deadline, f"still running after {seconds:g} s; the screen:\n{self.text}"
            self._read(0.05)
        self._read(0)
        return self.popen.returncode

    def _read(self, seconds: float) -> None:
        while select.select([self._fd], [], [], seconds)[0]:
            seconds = 0
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # the other end is closed
                return
            if not data:
                return
            self.raw += data
            self._stream.feed(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.popen.kill()
        self.popen.wait()
        os.close(self._fd)
