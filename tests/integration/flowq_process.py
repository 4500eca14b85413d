"""Runs `flowq` as a user does, in the folder of a project, and leaves no process of that project behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from tests.integration.project import clean_environ

FLOWQ = (sys.executable, "-m", "flowq")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""The locale of a program that was started without any."""
LONGEST_SECONDS = 120.0
POLL_SECONDS = 0.002
_MARK = "PROJECT_UNDER_TEST"


def wait_until(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
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


class Project:
    """A folder with pipelines and the variables that its processes get; a `with` block kills those still there."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        (folder / "pipelines").mkdir(parents=True, exist_ok=True)
        self._mark = uuid4().hex
        self.variables = variables
        self._started: list[FlowqProcess] = []

    @property
    def environ(self) -> dict[str, str]:
        """All variables that a process of this project gets."""
        return clean_environ() | self.variables | {_MARK: self._mark}

    def write(self, name: str, text: str) -> None:
        """Add a pipeline; the text may be indented."""
        (self.folder / "pipelines" / f"{name}.py").write_text(dedent(text).lstrip("\n"))

    def start(self, *arguments: str, **variables: str) -> FlowqProcess:
        """Start a command line."""
        process = FlowqProcess(arguments, self.folder, self.environ | variables)
        self._started.append(process)
        return process

    def run(self, *arguments: str, seconds: float = LONGEST_SECONDS, **variables: str) -> FlowqProcess:
        """Run a command line to its end."""
        process = self.start(*arguments, **variables)
        process.wait(seconds)
        return process

    def completed(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command line to its end, with nothing on standard input. Fails where it reports a bug of flowq."""
        ended = subprocess.run(
            [*FLOWQ, *arguments],
            cwd=self.folder,
            env=self.environ | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
        assert "FQ900" not in ended.stderr, ended.stderr
        return ended

    def pids(self) -> dict[int, str]:
        """The processes of this project that live, its Redis among them, each with its command line.

        They are known by a variable that all have inherited: neither parent nor group nor session tells, because
        workers have sessions of their own, and the server has cut every tie.
        """
        found: dict[int, str] = {}
        mark = f"{_MARK}={self._mark}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # of another user, or gone meanwhile
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def workers(self) -> list[int]:
        """The worker processes that live."""
        return [pid for pid, command in self.pids().items() if "flowq.cli.run.worker_process" in command]

    def kill_all(self) -> None:
        """`kill -9` of everything, until nothing is left."""
        wait_until(self._kill_some)

    def _kill_some(self) -> bool:
        for pid in (pids := self.pids()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill_all()
        for process in self._started:
            process.popen.kill()
            process.wait()
