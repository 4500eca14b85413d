"""Computes what the dispatch pipeline must send, and how often, with the standard library alone."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.dispatch.faults import hook_faults, mail_faults, rows_of
from examples.flights.dataset import FlightsUnavailable, flights, month_file

LATE_MINUTES = 60


@dataclass(slots=True)
class Expected:
    """The outcome, by flight."""

    rows: int = 0
    applied: set[str] = field(default_factory=set[str])  # webhooks that reach their airline
    gone: set[str] = field(default_factory=set[str])  # webhooks that the receiver refuses: a dead letter each
    mails: set[str] = field(default_factory=set[str])
    repeated: int = 0  # repeated notifications of the same flight
    faults: Counter[str] = field(default_factory=Counter[str])

    @property
    def hooks(self) -> int:
        """Webhooks to be sent."""
        return len(self.applied) + len(self.gone)

    @property
    def filtered(self) -> int:
        """Flights without a notification."""
        return self.rows - self.hooks - len(self.mails) - self.repeated

    @property
    def hook_retries(self) -> int:
        """Webhooks that have to be sent again."""
        return self.faults["429"] + self.faults["500"] + self.faults["lost"]

    @property
    def requests(self) -> int:
        """What the webhook receiver counts if its own faults are the only ones."""
        return self.hooks + self.hook_retries

    def numbers(self) -> dict[str, Any]:
        """All counts, for people and for JSON."""
        return {
            "rows": self.rows,
            "filtered": self.filtered,
            "webhooks": self.hooks,
            "applied": len(self.applied),
            "dead": len(self.gone),
            "webhook retries": self.hook_retries,
            "requests": self.requests,
            "seen twice": self.faults["lost"],
            "mails": len(self.mails),
            "mail retries": self.faults["451"],
        }


def expected(file: Path) -> Expected:
    """The notifications that must be sent for the flights in a file."""
    outcome = Expected()
    for number, (flight, row) in enumerate(rows_of(file), 1):
        outcome.rows += 1
        if any(flight in known for known in (outcome.mails, outcome.applied, outcome.gone)):
            outcome.repeated += 1
        elif row["dep_time"] == "NA":
            outcome.mails.add(flight)
            outcome.faults.update(mail_faults(number))
        elif int(row["dep_delay"]) >= LATE_MINUTES:
            faults = hook_faults(number, row["carrier"])
            outcome.faults.update(faults)
            (outcome.gone if "410" in faults else outcome.applied).add(flight)
    return outcome


def main() -> int:
    """Print the expected numbers of January as JSON."""
    try:
        outcome = expected(flights() / month_file(1))
    except FlightsUnavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(outcome.numbers(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
