"""A user's project in its own folder: commands run in it, and none of its processes is left behind."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import TracebackType
from typing import Self
from uuid import uuid4

from tests.integration.flowq_process import FLOWQ, LONGEST_SECONDS, FlowqProcess
from tests.integration.marked_processes import MarkedProcesses

# All that programs under test get from their caller: where things are on this machine, how it reaches a network, and
# the bucket that a test has set up. Whatever else is set, as CI, COLUMNS, TERM and PYTEST_ADDOPTS are by a CI server,
# would change what they print.
_INHERITED = re.compile(
    r"PATH|HOME|USER|LOGNAME|TMPDIR|LD_LIBRARY_PATH|PYENV_ROOT|(UV|AWS|SSL_CERT)_\w+|(?i:\w+_proxy)"
)

SCRAPE = """
    from __future__ import annotations

    from collections.abc import Iterator

    from pydantic import BaseModel

    from flowq import Pipeline, source, stage


    class Link(BaseModel):
        url: str
        depth: int = 0


    class Page(BaseModel):
        url: str
        html: str


    class Doc(BaseModel):
        url: str
        title: str


    @source
    def seeds(url: str) -> Iterator[Link]:
        yield Link(url=url)


    @stage(dedup="url", maxsize=2500)
    def fetch(link: Link) -> Page:
        return Page(url=link.url, html="")


    @stage
    def parse(page: Page) -> Iterator[Doc | Link]:
        yield Doc(url=page.url, title="")


    @stage
    def store(item: Doc | Page) -> None: ...


    scrape = Pipeline("scrape", seeds >> fetch >> parse >> (store | fetch))
"""


def own_redis(folder: Path) -> str:
    """The URL of the Redis that flowq runs for a folder itself."""
    password = (folder / ".flowq" / "redis.password").read_text().strip()
    return f"unix://:{password}@{folder}/.flowq/redis.sock"


def clean_environ() -> dict[str, str]:
    """An environment in which a program does the same whoever runs the tests: a person, `make` or a CI server."""
    inherited = {name: text for name, text in os.environ.items() if _INHERITED.fullmatch(name)}
    return inherited | {"LANG": "C.UTF-8"}


class Project:
    """A folder with pipelines, and the variables that its processes get; a `with` block kills those still there."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        (folder / "pipelines").mkdir(parents=True, exist_ok=True)
        self._marked = MarkedProcesses()
        self.variables = variables
        self._started: list[FlowqProcess] = []

    @property
    def environ(self) -> dict[str, str]:
        """All variables that a process of this project gets."""
        return clean_environ() | self.variables | self._marked.variables

    def write(self, name: str, text: str) -> Path:
        """Write a pipeline of this name, or the file of this path; the text may be indented."""
        file = self.folder / (name if "." in name else f"pipelines/{name}.py")
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = self.folder / f".{uuid4().hex}.written"  # else a run that reloads could meet half of a text
        whole.write_text(dedent(text).lstrip("\n"))
        return whole.replace(file)

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

    def ok(self, *arguments: str, **variables: str) -> FlowqProcess:
        """Run a command line to its end, which must be a good one."""
        process = self.run(*arguments, **variables)
        assert process.wait() == 0, process.stderr
        return process

    def flowq(self, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command line to its end, with this on standard input. Fails where it reports a bug of flowq."""
        with self.piped(*arguments, **variables) as process:
            stdout, stderr = process.communicate(stdin, timeout=LONGEST_SECONDS)
        assert "FQ900" not in stderr, stderr
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    @contextlib.contextmanager
    def piped(self, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command line with pipes for all three streams; it is gone when the block ends."""
        with subprocess.Popen(
            [*FLOWQ, *arguments],
            cwd=self.folder,
            env=self.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def pids(self) -> dict[int, str]:
        """The processes of this project that live, its Redis among them, each with its command line."""
        return self._marked.pids()

    def workers(self) -> list[int]:
        """The worker processes that live."""
        return [pid for pid, command in self.pids().items() if "flowq.cli.run.worker_process" in command]

    def kill_all(self) -> None:
        """`kill -9` of everything, until nothing is left."""
        self._marked.kill_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill_all()
        for process in self._started:
            process.popen.kill()
            process.wait()
