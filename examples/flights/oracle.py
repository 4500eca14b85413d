"""Computes what the flights pipeline must store and must reject, with the standard library alone.

It works differently from the pipeline: departures are computed from the column `time_hour`, which the pipeline does
not read, instead of New York local time.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from examples.flights.dataset import FlightsUnavailable, flights, month_file

FlownRow = tuple[str, str, int]  # departure in UTC, destination, distance


@dataclass(slots=True)
class Expected:
    """The outcome, by key."""

    rows: int = 0
    flown: dict[str, FlownRow] = field(default_factory=dict[str, FlownRow])
    unknown: dict[str, FlownRow] = field(default_factory=dict[str, FlownRow])  # to airports that are not in the table
    cancelled: dict[str, str] = field(default_factory=dict[str, str])  # key -> scheduled departure in UTC
    dead: Counter[str] = field(default_factory=Counter[str])  # unknown airports

    @property
    def departed(self) -> int:
        """Flights that left, to any destination."""
        return len(self.flown) + len(self.unknown)

    def numbers(self) -> dict[str, object]:
        """All counts, for people and for JSON."""
        departures = [departed for departed, _, _ in self.flown.values()]
        return {
            "rows": self.rows,
            "departed": self.departed,
            "flown": len(self.flown),
            "cancelled": len(self.cancelled),
            "dead": dict(self.dead),
            "distance": sum(distance for _, _, distance in self.flown.values()),
            "first": min(departures),
            "last": max(departures),
        }


def expected(folder: Path, months: Iterable[int] = (1,), *, days: Iterable[int] = range(1, 32)) -> Expected:
    """The expected outcome for the flights of some months, limited to some days."""
    with (folder / "airports.csv").open(newline="", encoding="utf-8") as lines:
        airports = {row["faa"] for row in csv.DictReader(lines)}
    wanted, outcome = set(days), Expected()
    for month in months:
        with (folder / month_file(month)).open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                if int(row["day"]) in wanted:
                    _count(row, airports, outcome)
    return outcome


def _count(row: Mapping[str, str], airports: set[str], outcome: Expected) -> None:
    outcome.rows += 1
    date = "-".join([row["year"], row["month"].zfill(2), row["day"].zfill(2)])
    key = f"{date} {row['carrier']}{row['flight']} {row['origin']}"
    scheduled = datetime.fromisoformat(row["time_hour"].replace("Z", "+00:00")) + timedelta(minutes=int(row["minute"]))
    if row["dep_time"] == "NA":
        outcome.cancelled[key] = _written(scheduled)
        return
    flown = _written(scheduled + timedelta(minutes=int(row["dep_delay"]))), row["dest"], int(row["distance"])
    if row["dest"] in airports:
        outcome.flown[key] = flown
    else:
        outcome.unknown[key] = flown
        outcome.dead[row["dest"]] += 1


def _written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def main() -> int:
    """Print the expected numbers of the months given (1 to 12; January by default) as JSON."""
    try:
        outcome = expected(flights(), [int(month) for month in sys.argv[1:]] or [1])
    except FlightsUnavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(outcome.numbers(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
