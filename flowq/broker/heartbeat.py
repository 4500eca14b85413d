"""The heartbeat of a lease: changes with each renewal, and says how long its worker has read nothing."""

from __future__ import annotations

from flowq.delivery.stored import seconds_in


def heartbeat(number: int, silent_seconds: float) -> str:
    """The value that a worker writes into its lease.

    >>> heartbeat(7, 0.04), heartbeat(8, 61.5)
    ('7', '8 61.5')
    """
    silent = round(silent_seconds, 1)
    return f"{number} {silent}" if silent > 0 else str(number)


def silent_seconds_in(heartbeat: str) -> float:
    """For how many seconds the worker had tried to read without success when it wrote the heartbeat.

    >>> silent_seconds_in("7"), silent_seconds_in("8 61.5")
    (0.0, 61.5)
    """
    return seconds_in(heartbeat.partition(" ")[2])
