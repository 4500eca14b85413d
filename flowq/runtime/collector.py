"""Python's garbage collector while messages are handled: thousands are alive at a time, and none needs it to go."""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager

_THRESHOLD = 10_000  # objects
_PYTHON_THRESHOLDS = (700, 2000)  # by default, up to 3.12 and since

_turn = threading.Lock()
_n_runs = 0
_found = gc.get_threshold()


def spare_the_collector() -> None:
    """In a process of flowq's own: collect less often, and never look at what lives as long as the process.

    A threshold that the user has set stays.
    """
    gc.freeze()
    _raise_threshold()


@contextmanager
def rarer_collections() -> Generator[None]:
    """In a program of the user's: collect less often during a run. The last run to end restores what the first found.

    Nothing is frozen: what the program drops meanwhile must be freed.
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
            if not _n_runs and gc.get_threshold() == (_THRESHOLD, *_found[1:]):  # else the program has set its own
                gc.set_threshold(*_found)


def _raise_threshold() -> None:
    if gc.get_threshold()[0] in _PYTHON_THRESHOLDS:
        gc.set_threshold(_THRESHOLD)
