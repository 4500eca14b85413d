"""Tunes Python's garbage collector: thousands of messages are alive at a time, and none needs it to be freed."""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager

_THRESHOLD = 10_000  # objects
START_THRESHOLD = 300_000  # imports leave little garbage: looking for it would take a twentieth of the start
_UNTOUCHED = (700, 2000, START_THRESHOLD)  # the first two are Python's defaults, up to 3.12 and since

_turn = threading.Lock()
_n_runs = 0
_found = gc.get_threshold()


def tune_gc() -> None:
    """In a worker process: collect less often, and never traverse objects that live as long as the process.

    A threshold set by the user is kept.
    """
    gc.freeze()
    _raise_threshold()


@contextmanager
def rarer_collections() -> Generator[None]:
    """In the user's program: collect less often during a run. The last run to end restores the original threshold.

    Nothing is frozen: garbage of the program must still be freed.
    """
    global _n_runs, _found
    with _turn:
        if not _n_runs:
            _found = gc.get_threshold()
            _raise_threshold()
        _n_runs += 1
    try:
        yield
    finally:
        with _turn:
            _n_runs -= 1
            if not _n_runs and gc.get_threshold() == (_THRESHOLD, *_found[1:]):  # otherwise the program has set its own
                gc.set_threshold(*_found)


def _raise_threshold() -> None:
    if gc.get_threshold()[0] in _UNTOUCHED:
        gc.set_threshold(_THRESHOLD)
