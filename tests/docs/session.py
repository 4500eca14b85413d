"""Runs a page as one session: in a folder of its own, with one bash and one Python module."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.docs.page import Block, Hidden, Page
from tests.integration.marked_processes import MarkedProcesses
from tests.integration.project import clean_environ
from tests.ports import free_port

COLUMNS = 100
LONGEST_SECONDS = 120.0
_PYTHON_MODULE = str(Path(__file__).with_name("python_module.py"))
_END = re.compile(rb"\x1e(\d+)\x1e")
# Commands arrive apart from standard input, so that none of them can swallow those after it. `set -m` gives each a
# process group of its own, as in a terminal: otherwise those in the background would ignore Ctrl-C.
_BASH = r"""
set -m
while IFS= read -r -d '' -u "$COMMANDS" command; do eval "$command"; printf '\x1e%d\x1e' $?; done
"""
_ENDED = r"(?:Done|Exit \d+|Killed|Terminated|Interrupt|Hangup)\b.*\n?"
_JOB_ENDED = re.compile(rf"^(?:\[\d+\][+ -] +|[\w/]*bash: line \d+: .*){_ENDED}", re.MULTILINE)


@dataclass(frozen=True)
class Done:
    """A command that was typed: what it has printed, on both streams, and its exit code."""

    output: str
    exit_code: int


class Session:
    """A folder `~/NAME` in which the steps of a page are done; a `with` block ends all that they have started."""

    def __init__(self, home: Path, name: str, page: Page) -> None:
        self.folder = home / name
        self.folder.mkdir(parents=True)
        self._home = home
        self._ports = {port: str(free_port()) for port in page.ports}
        self._marked = MarkedProcesses()
        self._environ = (
            clean_environ()
            | {
                "HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8",
                "COLUMNS": str(COLUMNS), "TERM": "dumb", "PYTHONUNBUFFERED": "1", "HISTFILE": "",
            }
            | self._marked.variables
        )  # fmt: skip
        self._open = ExitStack()
        self._bash = self._start_bash()
        self._python: tuple[IO[str], IO[str]] | None = None

    def _start_bash(self) -> subprocess.Popen[bytes]:
        theirs, self._commands = os.pipe()
        self._open.callback(os.close, self._commands)
        with os.fdopen(theirs):
            bash = subprocess.Popen(
                [shutil.which("bash") or "bash", "--noprofile", "--norc", "-c", _BASH],
                cwd=self.folder, env=self._environ | {"COMMANDS": str(theirs)}, pass_fds=[theirs],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
            )  # fmt: skip
        return self._open.enter_context(bash)

    def do(self, step: Block | Hidden, file: Path) -> list[Done]:
        """Do a step of a page; return what each command of a block has done. Raises AssertionError where it fails."""
        match step:
            case Hidden(command=command):
                self._hidden(step, command)
            case Block(is_only_shown=True):
                pass
            case Block(title=title) if title:
                self._write(title, step.text)
            case Block(language="python"):
                self._execute(step, file)
            case Block(language="console"):
                return [self.type(command.line) for command in step.commands()]
            case _:
                pass
        return []

    def type(self, command: str) -> Done:
        """Type a command, and wait for its end."""
        os.write(self._commands, self._with_free_ports(command).encode() + b"\0")
        assert self._bash.stdout
        output, deadline = b"", time.monotonic() + LONGEST_SECONDS
        while not (end := _END.search(output)):
            ready, _, _ = select.select([self._bash.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._bash.stdout.fileno(), 65536) if ready else b""
            assert data, f"`{command}` has not ended after {LONGEST_SECONDS:g} s, or has ended the shell:\n{output!r}"
            output += data
        return Done(self._as_shown(_END.sub(b"", output).decode(errors="replace")), int(end[1]))

    def _hidden(self, step: Hidden, command: str) -> None:
        deadline = time.monotonic() + LONGEST_SECONDS
        while (done := self.type(command)).exit_code:
            assert step.until_it_succeeds, f"`{command}` ended with {done.exit_code}:\n{done.output}"
            assert time.monotonic() < deadline, f"`{command}` never succeeded:\n{done.output}"
            time.sleep(0.05)

    def _write(self, title: str, text: str) -> None:
        file = self.folder / title
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self._with_free_ports(text))

    def _execute(self, step: Block, file: Path) -> None:
        if self._python is None:
            self._python = self._start_python()
        blocks, answers = self._python
        block = {"text": self._with_free_ports(step.text), "line": step.line_number, "file": str(file)}
        blocks.write(json.dumps(block) + "\n")
        blocks.flush()
        ready, _, _ = select.select([answers], [], [], LONGEST_SECONDS)
        assert ready, f"{file}:{step.line_number}: the block still runs after {LONGEST_SECONDS:g} s"
        error = json.loads(answers.readline())
        assert not error, error

    def _start_python(self) -> tuple[IO[str], IO[str]]:
        (theirs_in, blocks), (answers, theirs_out) = os.pipe(), os.pipe()
        with os.fdopen(theirs_in), os.fdopen(theirs_out):
            python = subprocess.Popen(
                [sys.executable, "-W", "error", _PYTHON_MODULE, str(theirs_in), str(theirs_out)],
                cwd=self.folder, env=self._environ, pass_fds=[theirs_in, theirs_out],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        self._open.enter_context(python)
        opened = self._open.enter_context
        return opened(os.fdopen(blocks, "w")), opened(os.fdopen(answers))

    def _with_free_ports(self, text: str) -> str:
        for named, free in self._ports.items():
            text = re.sub(rf"\b{named}\b", free, text)
        return text

    def _as_shown(self, output: str) -> str:
        for named, free in self._ports.items():
            output = output.replace(free, named)
        output = output.replace(str(self._home), "~").replace(sys.prefix, "~/.venv")
        output = re.sub(rf"\b{re.escape(socket.gethostname())}(?=:\d+:)", "host", _JOB_ENDED.sub("", output))
        return "\n".join(line.rstrip() for line in output.rstrip().splitlines())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._marked.kill_all()
        self._open.close()
