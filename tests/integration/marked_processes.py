"""Processes that have inherited a variable: all that a test or a page has started, however far it has detached."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from tests.integration.flowq_process import wait_until

_MARK = "PROJECT_UNDER_TEST"


class MarkedProcesses:
    """The processes that have `variables` in their environment.

    They are known by a variable that all have inherited: neither parent nor group nor session tells, because
    workers have sessions of their own, and the server has cut every tie.
    """

    def __init__(self) -> None:
        self.variables = {_MARK: uuid4().hex}

    def pids(self) -> dict[int, str]:
        """Those that live, each with its command line."""
        found: dict[int, str] = {}
        mark = f"{_MARK}={self.variables[_MARK]}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # of another user, or gone meanwhile
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def kill_all(self) -> None:
        """`kill -9` of everything, until nothing is left."""
        wait_until(self._kill_some)

    def _kill_some(self) -> bool:
        pids = self.pids()
        for pid in [*pids, *_descendants(pids)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids


def _descendants(pids: Iterable[int]) -> set[int]:
    """Their children and so on: a redis-server that was started by hand writes its title over its variables."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children[parent].append(int(folder.name))
    found, rest = set[int](), list(pids)
    while rest:
        new = set(children[rest.pop()]) - found
        found |= new
        rest += new
    return found
