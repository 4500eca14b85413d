"""A `flowq` that runs as a user starts it, and what it has said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

FLOWQ = (sys.executable, "-m", "flowq")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""The locale of a program that was started without any."""
LONGEST_SECONDS = 120.0
POLL_SECONDS = 0.002


def wait_until(condition: Callable[[], object], *, seconds: float = LONGEST_SECONDS) -> None:
    """Return as soon as the condition holds; fail when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not come true within {seconds:g} s"
        time.sleep(POLL_SECONDS)


class FlowqProcess:
    """A `flowq` that has been started. It leads a process group of its own, as it does in a shell."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, environ: dict[str, str]) -> None:
        self._stdout, self._stderr = (folder / f".{uuid4().hex}.{name}" for name in ("stdout", "stderr"))
        with self._stdout.open("w") as stdout, self._stderr.open("w") as stderr:
            self.popen = subprocess.Popen(
                [*FLOWQ, *arguments],
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def stdout(self) -> str:
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    @property
    def summary(self) -> dict[str, Any]:
        """The last line of standard output, which with `--json` is an object."""
        summary: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return summary

    @property
    def has_ended(self) -> bool:
        return self.popen.poll() is not None

    def signal_group(self, number: signal.Signals) -> None:
        """What the terminal does at Ctrl-C."""
        os.killpg(self.pid, number)

    def wait(self, seconds: float = LONGEST_SECONDS) -> int:
        """The exit code."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s, has said:\n{self.stdout}{self.stderr}") from None

    def wait_for(self, condition: Callable[[], object], *, seconds: float = LONGEST_SECONDS) -> None:
        """Wait until something is so while this process lives."""
        try:
            wait_until(lambda: condition() or self.has_ended, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; flowq has said:\n{self.stdout}{self.stderr}") from None
        assert not self.has_ended or condition(), f"ended with {self.wait()}:\n{self.stdout}{self.stderr}"
