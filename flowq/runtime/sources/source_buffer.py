"""The values of a source that are not published yet, in order, with its cursors in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from flowq.broker.publishing import Refused
from flowq.delivery.chunks import MOST_BYTES_PER_CALL, MOST_PER_CALL
from flowq.delivery.settlement import Output

Entry = Output | Refused


@dataclass(frozen=True, slots=True)
class SourceChunk:
    """What one call publishes. With `cursor`, everything up to that cursor has then been published."""

    entries: Sequence[Entry]
    cursor: bytes | None


class SourceBuffer:
    """Values that wait to be published, each as the entries made of it, which are never separated.

    `holds`: values after the last cursor wait for the next one, unless they exceed what one call may carry, or
    `most_bytes`.
    """

    def __init__(self, *, holds: bool, most_bytes: int = MOST_BYTES_PER_CALL) -> None:
        self._holds = holds
        self._most_bytes = most_bytes
        self._values: deque[Sequence[Entry]] = deque()
        self._sizes: deque[int] = deque()
        self._n_bytes = 0
        self._cursors: deque[tuple[int, bytes]] = deque()  # each with the number of values before it, ever
        self._taken = 0

    def __len__(self) -> int:
        return len(self._values)

    @property
    def is_full(self) -> bool:
        """Whether there is enough for a full call, so that nothing waits for a cursor any more."""
        n = len(self._values)
        return n >= MOST_PER_CALL or (n > 1 and self._n_bytes > self._most_bytes)

    def add(self, entries: Sequence[Entry]) -> None:
        """Add the entries made of one value."""
        size = sum([len(entry.body) for entry in entries])
        self._values.append(entries)
        self._sizes.append(size)
        self._n_bytes += size

    def save(self, cursor: bytes) -> None:
        """Record that this cursor covers everything added so far."""
        at = self._taken + len(self._values)
        if self._cursors and self._cursors[-1][0] == at:
            self._cursors.pop()
        self._cursors.append((at, cursor))

    def take(self, most: int, *, everything: bool = False) -> SourceChunk | None:
        """The next chunk of about `most` values, up to a cursor if one is within reach; None if nothing is ready.

        With `everything`, values after the last cursor are ready as well.
        """
        at = end = self._taken + self._fitting(most)
        cursor: bytes | None = None
        while self._cursors and self._cursors[0][0] <= end:
            at, cursor = self._cursors.popleft()
        if cursor is None and self._cursors and self._cursors[0][0] <= self._taken + self._fitting(MOST_PER_CALL):
            at, cursor = self._cursors.popleft()  # more than `most`, but it belongs together
        if cursor is None and (not self._values or (self._waits_for_a_cursor() and not everything)):
            return None
        return SourceChunk(self._popped(at - self._taken), cursor)

    def _waits_for_a_cursor(self) -> bool:
        """Whether these values and the next cursor may still fit into one call."""
        return self._holds and not self._cursors and self._fitting(MOST_PER_CALL) == len(self._values) < MOST_PER_CALL

    def _fitting(self, most: int) -> int:
        n = n_bytes = 0
        for size in self._sizes:
            n_bytes += size
            if n == most or (n and n_bytes > self._most_bytes):
                break
            n += 1
        return n

    def _popped(self, n: int) -> list[Entry]:
        self._taken += n
        entries: list[Entry] = []
        for _ in range(n):
            self._n_bytes -= self._sizes.popleft()
            entries += self._values.popleft()
        return entries
