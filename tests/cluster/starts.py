"""How far the starts of a paced stage ran ahead of its rate, from the moments at which they really began."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

LATE_SECONDS = 0.5
"""A worker refuses a turn that it meets 0.1 s late; a busy machine may let it wait for a core after that."""


def starts_of(folder: Path) -> dict[str, list[float]]:
    """The starts that the handlers have written down, in order, by host."""
    starts: defaultdict[str, list[float]] = defaultdict(list)
    for file in folder.glob("*.starts"):
        for line in file.read_text().splitlines():
            host, _, moment = line.partition(" ")
            starts[host].append(float(moment))
    return {host: sorted(moments) for host, moments in starts.items()}


def ahead_seconds(starts: Iterable[float], per_second: float) -> float:
    """By how much the most hasty of the starts came before it would have, had each come exactly in its turn.

    Turns are granted `1 / per_second` apart. Where this is at most x, no stretch of t seconds has more than
    `1 + (t + x) * per_second` starts, however long it is.

    >>> ahead_seconds([0.0, 0.5, 1.0], 2.0), ahead_seconds([0.5, 0.5, 0.5, 3.0], 2.0)
    (0.0, 1.0)
    """
    due, most = float("-inf"), 0.0
    for moment in starts:
        most = max(most, due - moment)
        due = max(due, moment) + 1 / per_second
    return most


def most_in_a_second(starts: Sequence[float]) -> int:
    """The largest number of starts in any second.

    >>> most_in_a_second([0.0, 0.9, 1.8, 1.85])
    3
    """
    first, most = 0, 0
    for n, moment in enumerate(starts):
        while moment - starts[first] >= 1:
            first += 1
        most = max(most, n - first + 1)
    return most


def too_hasty(starts: Mapping[str, Sequence[float]], per_second: float) -> Counter[str]:
    """The hosts at which starts ran ahead of the rate, in milliseconds."""
    ahead = {host: ahead_seconds(moments, per_second) for host, moments in starts.items()}
    return Counter({host: int(seconds * 1000) for host, seconds in ahead.items() if seconds > LATE_SECONDS})
