"""The visits of hosts in a storm, as the handlers and the storm itself have noted them, and what was promised of them.

The clock is that of the machine, which Redis reads as well. Nothing of flowq's is asked.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path

PER_SECOND, BURST, CONCURRENCY = 20, 3, 2
HOLD_SECONDS = 4.0
_LATE = PER_SECOND // 10  # a turn is good for a tenth of a second
_GRANTED_AHEAD_SECONDS = 2.0 + 0.1 + 0.5  # given before the hold came: how far ahead, how late, by how old an answer
_SECOND_NS = 1_000_000_000


def log_of(side_log: Path) -> Path:
    """Where it is written when visits begin and end, and when a worker is killed, frozen or thawed."""
    return side_log.with_suffix(".visits")


def open_log(side_log: Path) -> int:
    return os.open(log_of(side_log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def note(file: int, event: str, pid: int, host: str = "-", path: str = "-") -> None:
    os.write(file, f"{time.time_ns()} {event} {pid} {host} {path}\n".encode())


@dataclass
class Run:
    """One run of the handler."""

    pid: int
    host: str
    path: str
    began_ns: int
    ended_ns: float = inf

    def __str__(self) -> str:
        seconds = f"{self.began_ns / _SECOND_NS:.3f} to {self.ended_ns / _SECOND_NS:.3f}"
        return f"{self.path} of {self.host} in {self.pid} from {seconds}"


class Visits:
    """All runs, and when processes were not alive."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.runs: list[Run] = []
        self._frozen: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
        under_way: dict[tuple[int, str], Run] = {}
        for at, event, pid, host, path in sorted((int(at), *rest) for at, *rest in map(str.split, lines)):
            self._take(at, event, int(pid), host, path, under_way)

    def _take(self, at: int, event: str, pid: int, host: str, path: str, under_way: dict[tuple[int, str], Run]) -> None:
        frozen = self._frozen[pid]
        match event:
            case "begins":
                under_way[pid, path] = run = Run(pid, host, path, at)
                self.runs.append(run)
            case "ends":
                under_way.pop((pid, path)).ended_ns = at
            case "frozen":
                if not frozen or frozen[-1][1] < inf:  # one that is frozen already is thawed by the first SIGCONT
                    frozen.append((at, inf))
            case "thawed":
                if frozen and frozen[-1][1] == inf:
                    frozen[-1] = frozen[-1][0], at
            case _:  # killed
                for run in [run for run in under_way.values() if run.pid == pid]:
                    run.ended_ns = at

    def _of_hosts(self) -> Iterator[list[Run]]:
        for host in {run.host for run in self.runs}:
            yield sorted((run for run in self.runs if run.host == host), key=lambda run: run.began_ns)

    def beyond_the_rate(self) -> list[str]:
        """Starts with more than the rate, its burst and a tenth in the second before them."""
        most = PER_SECOND + BURST + _LATE
        return [
            f"{runs[i]}: {most + 1} in {(runs[i].began_ns - runs[i - most].began_ns) / _SECOND_NS:.3f} s"
            for runs in self._of_hosts()
            for i in range(most, len(runs))
            if runs[i].began_ns - runs[i - most].began_ns < _SECOND_NS
        ]

    def most_in_a_second(self) -> int:
        most = 0
        for runs in self._of_hosts():
            first = 0
            for i, run in enumerate(runs):
                while run.began_ns - runs[first].began_ns >= _SECOND_NS:
                    first += 1
                most = max(most, i - first + 1)
        return most

    def beyond_the_concurrency(self) -> list[str]:
        """Runs that began beside too many others of their host, those of frozen workers aside: they may be replaced."""
        beyond: list[str] = []
        for runs in self._of_hosts():
            alive = [run for run in runs if not self._was_frozen(run)]
            for i, run in enumerate(alive):
                beside = [other for other in alive[:i] if other.ended_ns > run.began_ns]
                if len(beside) >= CONCURRENCY:
                    beyond.append(f"{run}, beside {' and '.join(map(str, beside))}")
        return beyond

    def _was_frozen(self, run: Run) -> bool:
        return any(began < run.ended_ns and run.began_ns < ended for began, ended in self._frozen[run.pid])

    def within(self, holds: Iterable[tuple[str, float, float]]) -> list[str]:
        """Starts of a held host, each hold with the seconds of its beginning and end, when none can be left over."""
        begun = {host: [run for run in self.runs if run.host == host] for host in {run.host for run in self.runs}}
        return [
            f"{run}: held from {began:.3f} to {until:.3f}"
            for host, began, until in holds
            for run in begun.get(host, [])
            if began + _GRANTED_AHEAD_SECONDS < run.began_ns / _SECOND_NS < until
        ]


def read_visits(side_log: Path) -> Visits:
    return Visits(log_of(side_log).read_text().splitlines())
