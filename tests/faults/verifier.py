"""An independent judge of a storm: a process that asks Redis and the handlers' own log, and nothing of flowq's.

`python -m tests.faults.verifier REDIS_URL APPEND_ONLY_FILE SIDE_LOG ROOTS` prints a table and exits with 1 on any
violation. What is expected follows from the number of roots and the rule in the workload's first lines.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from flowq.delivery.edge import Edge
from tests.faults.journal import Journal, read_journal
from tests.faults.visits import Visits, read_visits

PREFIX = "flowq:{storm}:"
KEPT_AFTER_A_RUN = {
    *("stats", "failures", "run", "plan", "published", "clock", "cursors", "deaths"),
    *("seen:fetch", "seen:visit", "rate:visit", "starts:visit"),  # of slots, holds and queues nothing may be left
}
LONGEST_LEASE_SECONDS = 6.0
LONGEST_LIFE_MS = {"tempo": 40_000, "answered": 600_000}
_SHOWN = 5


@dataclass
class Expected:
    """What a storm of `n` roots must have done."""

    n: int
    births: set[tuple[str, str]] = field(init=False)
    handled: set[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        roots = {str(i) for i in range(self.n)}
        back = {f"{i}/next" for i in range(0, self.n, 2)} | {f"group-{i // 10}" for i in range(self.n)}
        links = roots | back
        docs = {f"{path}/{letter}" for path in links for letter in "ab"}
        visits = {f"visit-{i // 2}" for i in range(self.n)}
        by_edge = {"seeds>fetch": roots, "parse>fetch": back, "fetch>parse": links, "parse>store": docs}
        by_edge |= {"parse>visit": visits}
        self.births = {(edge, path) for edge, paths in by_edge.items() for path in paths}
        self.handled = {(Edge.parse(edge).target, path) for edge, path in self.births}

    @property
    def balance(self) -> dict[str, int]:
        """What the counters of flowq should say, the other way round: they are judged, not believed."""
        entered = Counter(edge for edge, _ in self.births)
        ok = Counter(stage for stage, _ in self.handled)
        given_again = {"seeds>fetch": 0, "parse>fetch": self.n - (self.n + 9) // 10, "parse>visit": self.n // 2}
        return {
            **{f"in:{edge}": n for edge, n in entered.items()},
            **{f"ok:{stage}": n for stage, n in ok.items()},
            **{f"duplicates:{edge}": n for edge, n in given_again.items()},
        }


@dataclass(frozen=True)
class Finding:
    """One line of the verdict: violations of a rule, or with `is_fault` false just a number worth knowing."""

    what: str
    n: int
    examples: tuple[str, ...] = ()
    is_fault: bool = True

    @classmethod
    def of(cls, what: str, examples: Iterable[Any]) -> Finding:
        found = sorted(map(str, examples))
        return cls(what, len(found), tuple(found[:_SHOWN]))

    def __str__(self) -> str:
        mark = "" if not self.is_fault else "FAILED  " + ", ".join(self.examples) if self.n else "ok"
        return f"  {self.what:<34}{self.n:>9,}  {mark}".rstrip()


class Witness:
    """The state of the server after the storm."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url, decode_responses=True)

    def keys(self) -> set[str]:
        return set(self._redis.scan_iter(count=1000))

    def wait_until_leases_are_over(self) -> None:
        """A worker that was killed last leaves a lease that ends by itself."""
        deadline = time.monotonic() + LONGEST_LEASE_SECONDS
        while any(key.startswith(PREFIX + "lease:") for key in self.keys()) and time.monotonic() < deadline:
            time.sleep(0.05)

    def of_kind(self, kind: str) -> list[str]:
        return [key for key in self.keys() if key.startswith(f"{PREFIX}{kind}:")]

    def consumers(self) -> list[str]:
        return [
            f"{group['name']} of {stream}: {consumer['name']}"
            for stream in self.of_kind("edge")
            for group in self._redis.xinfo_groups(stream)
            for consumer in self._redis.xinfo_consumers(stream, group["name"])
        ]

    def entries(self, kind: str) -> list[str]:
        return [f"{stream}: {entry}" for stream in self.of_kind(kind) for entry in self._redis.xrange(stream) or ()]

    def strange_keys(self) -> set[str]:
        known = {PREFIX + name for name in KEPT_AFTER_A_RUN}
        for kind, longest_ms in LONGEST_LIFE_MS.items():
            known |= {key for key in self.of_kind(kind) if 0 <= self._redis.pttl(key) <= longest_ms}
        return self.keys() - known - set(self.of_kind("edge")) - set(self.of_kind("dead"))

    def counters(self) -> Counter[str]:
        stats: dict[str, str] = self._redis.hgetall(PREFIX + "stats")  # type: ignore[assignment]
        return Counter({name: int(value) for name, value in stats.items()})


def verdict(
    expected: Expected, witness: Witness, journal: Journal, log: Iterable[str], visits: Visits
) -> list[Finding]:
    """Everything that was promised, with what speaks against it."""
    witness.wait_until_leases_are_over()
    runs = Counter((stage, path) for stage, path, _ in map(str.split, log))
    handled, births, counters = set(runs), set(journal.births), witness.counters()
    wrong = [f"{name} is {counters[name]}, not {n}" for name, n in expected.balance.items() if counters[name] != n]
    of = Finding.of
    return [
        Finding("transactions of Redis replayed", journal.transactions, is_fault=False),
        Finding("messages handled", len(handled), is_fault=False),
        Finding("handler runs beyond the first", runs.total() - len(runs), is_fault=False),
        Finding("visits in a second, at most", visits.most_in_a_second(), is_fault=False),
        Finding("holds of a host", len(journal.holds), is_fault=False),
        of("lost: never appended", expected.births - births),
        of("lost: never handled", expected.handled - handled),
        of("lost: still in an edge", journal.left.union(witness.entries("edge"))),
        of("duplicated: appended more than once", [birth for birth, n in journal.births.items() if n > 1]),
        of("duplicated: in two places", journal.doubled),
        of("duplicated: output of no handler", births - expected.births),
        of("visits beyond the rate", visits.beyond_the_rate()),
        of("visits beyond the concurrency", visits.beyond_the_concurrency()),
        of("visits of a host that was held", visits.within(journal.holds)),
        of("healthy messages dead-lettered", witness.entries("dead")),
        of("leaked consumers", witness.consumers()),
        of("keys left behind", witness.strange_keys()),
        of("counters that are wrong", wrong),
    ]


def main(arguments: list[str], show: Callable[[str], None] = print) -> int:
    url, journal, log, roots = arguments
    handled = Path(log).read_text().splitlines()
    visits = read_visits(Path(log))
    findings = verdict(Expected(int(roots)), Witness(url), read_journal(Path(journal)), handled, visits)
    for finding in findings:
        show(str(finding))
    return int(any(finding.n for finding in findings if finding.is_fault))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
