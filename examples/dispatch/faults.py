"""Decides which attempt of a notification gets which fault: from the flights file alone, the same in every run."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from zlib import crc32

Fault = Literal["410", "429", "500", "lost", "451"]


def rows_of(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a flights file, each with the name of its notification."""
    with file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            date = "-".join([row["year"], row["month"].zfill(2), row["day"].zfill(2)])
            yield f"{date} {row['carrier']}{row['flight']} {row['origin']}", row


def numbers(file: Path) -> dict[str, int]:
    """The number of the first row of each flight in a file, from 1."""
    places: dict[str, int] = {}
    for number, (flight, _) in enumerate(rows_of(file), 1):
        places.setdefault(flight, number)
    return places


def hook_faults(number: int, airline: str) -> tuple[Fault, ...]:
    """The faults of the first attempts of a webhook; the next attempt is answered with 204.

    Hawaiian has shut its receiver down, Southwest throttles, US Airways fails twice. One webhook in twenty is applied,
    but the response is lost.
    """
    if airline == "HA":
        return ("410",)
    by_airline: dict[str, tuple[Fault, ...]] = {"WN": ("429",), "US": ("500", "500")}
    lost: tuple[Fault, ...] = ("lost",) if _one_in(20, number) else ()
    return by_airline.get(airline, ()) + lost


def mail_faults(number: int) -> tuple[Fault, ...]:
    """The faults of the first attempts of an e-mail: one in ten is deferred."""
    return ("451",) if _one_in(10, number) else ()


def _one_in(n: int, number: int) -> bool:
    return crc32(str(number).encode()) % n == 0
