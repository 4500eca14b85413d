"""Processes of a measurement: reads /proc, and starts workers that begin together and end with this process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, Self

from benchmarks.tally import count_in

ROOT = Path(__file__).parents[1]
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_POLL_SECONDS = 0.01
_LONGEST_SECONDS = 300.0


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, user and system, over all threads."""
    words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS_PER_SECOND


def peak_rss_mib(pid: int) -> float:
    """The peak memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def busy_loops(n: int) -> Generator[None]:
    """Other programs that could keep `n` cores busy by themselves, for the length of a `with`."""
    with ExitStack() as stack:
        for _ in range(n):
            loop = stack.enter_context(start("-c", "while True: pass"))
            stack.callback(loop.kill)
        yield


class Home(Protocol):
    """Where the messages of a team are, and a folder for its tallies."""

    @property
    def url(self) -> str: ...
    @property
    def folder(self) -> Path: ...


class Team:
    """Worker processes of one subject. All have imported everything before the first begins. Use it in a `with`."""

    def __init__(self, subject: str, task: str, server: Home, *, workers: int = 1) -> None:
        self._arguments = (subject, task, server.url)
        self.tallies = [server.folder / f"{number}.tally" for number in range(workers)]
        self._stack = ExitStack()
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for path in self.tallies:
            process = self._stack.enter_context(start("-m", "benchmarks.worker", *self._arguments, str(path)))
            self._processes.append(process)
        for process in self._processes:
            assert process.stdout is not None
            if not process.stdout.readline():
                self.__exit__()
                raise RuntimeError("a worker did not start")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()  # its server removes what it leaves behind
        self._stack.close()

    def go(self) -> None:
        """Begin."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()

    def wait_for(self, n: int) -> None:
        """Return when so many messages have been handled. Raises RuntimeError if they will not be."""
        deadline = time.monotonic() + _LONGEST_SECONDS
        while (done := count_in(self.tallies)) < n:
            if time.monotonic() > deadline or not self.is_alive:
                raise RuntimeError(f"{done:,} of {n:,} messages were handled")
            time.sleep(_POLL_SECONDS)

    @property
    def is_alive(self) -> bool:
        return all(process.poll() is None for process in self._processes)

    @property
    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(process.pid) for process in self._processes)

    @property
    def peak_rss_mib(self) -> float:
        return max(peak_rss_mib(process.pid) for process in self._processes)


def start(*arguments: str, cwd: Path = ROOT, stderr: int | None = None) -> subprocess.Popen[bytes]:
    """A Python process that finds this package from any folder. It has a session of its own: Ctrl-C is not for it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*ending_with_this_process(), sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )


def ending_with_this_process() -> list[str]:
    """What a command begins with so that, on Linux, the kernel ends it when this process is killed."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []
