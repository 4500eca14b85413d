"""How long this thread was ready to run and no core ran it: what its neighbours took, not what its work took."""

from __future__ import annotations

import os
import threading
from pathlib import Path

_OF_THIS_THREAD = Path("/proc/thread-self/schedstat")


class CoreWait:
    """The waiting time of the thread that makes it, as Linux counts it.

    Time beyond the processor quota of a container counts too. Sleeping does not, nor do pauses of the whole machine or
    of a stopped process. The file stays open, since opening it costs more than all the rest.
    """

    def __init__(self, path: Path = _OF_THIS_THREAD) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no Linux, or no /proc
            self._descriptor = -1

    def seconds(self) -> float:
        """In seconds since the thread began; always 0 where the system does not count it."""
        try:
            return int(os.pread(self._descriptor, 100, 0).split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


class _OfEachThread(threading.local):
    def __init__(self) -> None:
        self.core_wait = CoreWait()


_here = _OfEachThread()


def core_wait_seconds() -> float:
    """How long the calling thread has waited for a core since it began; always 0 where the system does not count it."""
    return _here.core_wait.seconds()


def _reopen() -> None:
    global _here
    _here = _OfEachThread()  # a forked child has inherited the file of its parent's thread


os.register_at_fork(after_in_child=_reopen)
