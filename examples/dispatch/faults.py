"""Which fault meets which try of a notification: follows from the flights file alone, the same in every run."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from zlib import crc32

Fault = Literal["410", "429", "500", "lost", "451"]


def rows_of(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a flights file, each behind the name that its notification has."""
    with file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            date = "-".join([row["year"], row["month"].zfill(2), row["day"].zfill(2)])
            yield f"{date} {row['carrier']}{row['flight']} {row['origin']}", row


def numbers(file: Path) -> dict[str, int]:
    """The place of each flight in a file, from 1: where it stands first."""
    places: dict[str, int] = {}
    for number, (flight, _) in enumerate(rows_of(file), 1):
        places.setdefault(flight, number)
    return places


def hook_faults(number: int, airline: str) -> tuple[Fault, ...]:
    """What the first tries of a webhook meet; the next one is answered with 204.

    Hawaiian has shut its receiver down, Southwest throttles, US Airways fails twice; and of one webhook in twenty the
    receiver does what it says, but its answer is lost.
    """
    if airline == "HA":
        return ("410",)
    by_airline: dict[str, tuple[Fault, ...]] = {"WN": ("429",), "US": ("500", "500")}
    lost: tuple[Fault, ...] = ("lost",) if _one_in(20, number) else ()
    return by_airline.get(airline, ()) + lost


def mail_faults(number: int) -> tuple[Fault, ...]:
    """What the first tries of an e-mail meet: one in ten is turned away for the moment."""
    return ("451",) if _one_in(10, number) else ()


def _one_in(n: int, number: int) -> bool:
    return crc32(str(number).encode()) % n == 0
