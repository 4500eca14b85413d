"""How many messages one read may ask for, when replies are cut off on their way."""

from __future__ import annotations

_UNBOUNDED = 1 << 62
_REPLIES_PER_STEP = 16
_STEP = 1 / 4


class ReadSize:
    """Half as many messages after each reply that was cut off, down to one from one edge, then slowly more again.

    Slowly because a reply that exceeds a limit of the server costs a connection each time. `failures` counts replies
    with a single message that were cut off one after the other.

    >>> size = ReadSize()
    >>> size.cut_off(100)
    >>> size.bound(100), size.bound(20)
    (50, 20)
    """

    def __init__(self) -> None:
        self._most = _UNBOUNDED
        self._n_arrived = 0
        self.failures = 0

    @property
    def is_one_edge(self) -> bool:
        """Whether one message from each edge was too much."""
        return self._most == 0

    def bound(self, wanted: int) -> int:
        """The number to ask for."""
        return max(1, min(wanted, self._most))

    def cut_off(self, asked: int) -> None:
        """The reply to a request for so many did not arrive."""
        if self._most == 0:
            self.failures += 1
        self._most = asked // 2

    def arrived(self) -> None:
        """A reply with messages has arrived."""
        if self._most == _UNBOUNDED:
            return
        self.failures = 0
        self._n_arrived += 1
        if self._n_arrived % _REPLIES_PER_STEP == 0:
            self._most += max(1, int(self._most * _STEP))
