"""The beat of a lease: changes with every renewal, and tells how long its worker has been silent."""

from __future__ import annotations

from flowq.delivery.stored import seconds_in


def beat(number: int, silent_seconds: float) -> str:
    """What a worker writes into its lease.

    >>> beat(7, 0.04), beat(8, 61.5)
    ('7', '8 61.5')
    """
    silent = round(silent_seconds, 1)
    return f"{number} {silent}" if silent > 0 else str(number)


def silence_of(beat: str) -> float:
    """For how many seconds its worker had not read anything, though it wanted to, when the beat was written.

    >>> silence_of("7"), silence_of("8 61.5")
    (0.0, 61.5)
    """
    return seconds_in(beat.partition(" ")[2])
