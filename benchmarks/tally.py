"""Counts handled messages in shared memory, so that counting costs Redis nothing."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns

_COUNT, _FIRST_NS, _LAST_NS, _SAMPLES = range(4)
_MOST_SAMPLES = 100_000
_SIZE_BYTES = 8 * (_SAMPLES + _MOST_SAMPLES)


class Tally:
    """The count of one worker process, private until `share` is called."""

    def __init__(self) -> None:
        self._cells = memoryview(bytearray(8 * _SAMPLES)).cast("q")

    def share(self, path: Path) -> None:
        """Count in this file from now on."""
        with path.open("w+b") as file:
            file.truncate(_SIZE_BYTES)
            self._cells = memoryview(mmap.mmap(file.fileno(), _SIZE_BYTES)).cast("q")

    def hit(self) -> None:
        """One message has been handled."""
        cells, now_ns = self._cells, monotonic_ns()
        if not cells[_FIRST_NS]:
            cells[_FIRST_NS] = now_ns
        cells[_LAST_NS] = now_ns
        cells[_COUNT] += 1

    def arrive(self, sent_ns: int) -> None:
        """One message has reached its handler."""
        late_ns = monotonic_ns() - sent_ns
        self._cells[_SAMPLES + self._cells[_COUNT]] = late_ns
        self.hit()

    def start(self) -> None:
        """Work begins here but ends elsewhere: for the first of several stages."""
        if not self._cells[_FIRST_NS]:
            self._cells[_FIRST_NS] = monotonic_ns()


tally = Tally()
"""The tally of this process."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The combined tallies of several processes."""

    count: int
    first_ns: int
    last_ns: int
    late_ns: tuple[int, ...]

    @property
    def seconds(self) -> float:
        return (self.last_ns - self.first_ns) / 1e9


def count_in(paths: Iterable[Path]) -> int:
    """Messages handled so far."""
    return sum(_cells_of(path, 8)[0] for path in paths)


def read(paths: Iterable[Path]) -> Reading:
    """Read and combine tallies."""
    cells = [_cells_of(path, _SIZE_BYTES) for path in paths]
    firsts = [own[_FIRST_NS] for own in cells if own[_FIRST_NS]]
    return Reading(
        count=sum(own[_COUNT] for own in cells),
        first_ns=min(firsts, default=0),
        last_ns=max(own[_LAST_NS] for own in cells),
        late_ns=tuple(
            late_ns for own in cells for late_ns in own[_SAMPLES : _SAMPLES + min(own[_COUNT], _MOST_SAMPLES)]
        ),
    )


def _cells_of(path: Path, n_bytes: int) -> memoryview[int]:
    with path.open("rb") as file:
        return memoryview(file.read(n_bytes)).cast("q")
