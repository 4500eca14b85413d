"""Which fault meets which try of a notification: follows from the flight alone, the same in every run."""

from __future__ import annotations

from typing import Literal
from zlib import crc32

Fault = Literal["410", "429", "500", "lost", "451"]


def hook_faults(flight: str, airline: str) -> tuple[Fault, ...]:
    """What the first tries of a webhook meet; the next one is answered with 204.

    Hawaiian has shut its receiver down, Southwest throttles, US Airways fails twice; and of one webhook in twenty the
    receiver does what it says, but its answer is lost.
    """
    if airline == "HA":
        return ("410",)
    by_airline: dict[str, tuple[Fault, ...]] = {"WN": ("429",), "US": ("500", "500")}
    lost: tuple[Fault, ...] = ("lost",) if crc32(flight.encode()) % 20 == 0 else ()
    return by_airline.get(airline, ()) + lost


def mail_faults(flight: str) -> tuple[Fault, ...]:
    """What the first tries of an e-mail meet: one in ten is turned away for the moment."""
    return ("451",) if crc32(flight.encode()) % 10 == 0 else ()
