"""The workers of a pipeline that died within the last day: how, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flowq.broker.client.rounds import Rounds
from flowq.broker.keys import Keys
from flowq.broker.records import Snapshot, pairs, worker_facts
from flowq.delivery.stored import entry_ms, name_in, text_in

_MOST_DEATHS = 50
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class DeadWorker:
    """A worker that died within the last day: `how`, as far as is known, and `at_ms`, when that was noticed.

    `at_ms` is None while its lease has ended and no other worker has noticed.
    """

    name: str
    at_ms: int | None
    how: str
    host: str = ""
    pid: int = 0
    stages: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON, with the name as `worker`."""
        values = asdict(self)
        return {"worker": values.pop("name"), **values}


Deaths = dict[str, DeadWorker]
"""Workers that died, by the id of the note."""


def deaths_reading(keys: Keys, before: Deaths) -> Rounds[Deaths]:
    """The deaths on record, the oldest first, in one round. Those known from an earlier look are not read again."""
    last = f"({next(reversed(before))}" if before else "-"
    length, found = yield [(b"XLEN", keys.deaths), (b"XRANGE", keys.deaths, last, b"+", b"COUNT", _MOST_DEATHS)]
    if isinstance(length, Exception) or isinstance(found, Exception):  # a key of another type
        return {}
    new = {text_in(entry_id): _death(entry_id, dict(pairs(fields))) for entry_id, fields in found}
    known = {**before, **new}
    return dict(list(known.items())[max(0, len(known) - length) :])  # fewer, if Redis was emptied meanwhile


def _death(entry_id: bytes, fields: Mapping[bytes, bytes]) -> DeadWorker:
    name, how = name_in(fields.get(b"worker", b"")), text_in(fields.get(b"how", b""))
    facts = worker_facts(fields.get(b"facts", b""))
    return _dead(name, facts, entry_ms(entry_id), how.removeprefix("crash: ").removeprefix("lost: "))


def _dead(name: str, facts: Mapping[str, Any], at_ms: int | None, how: str) -> DeadWorker:
    return DeadWorker(name, at_ms, how, facts.get("host", ""), facts.get("pid", 0), tuple(facts.get("stages", ())))


def dead_workers(snapshot: Snapshot, leases: Mapping[str, tuple[str, int]], deaths: Deaths) -> list[DeadWorker]:
    """Those that died within a day, latest first. A worker that only seemed dead and still runs is not among them."""
    registered = {facts["worker"]: facts for facts in snapshot.workers}
    alive = {name for worker in leases for name in (worker, *registered[worker].get("formerly", ()))}
    unnoticed = [_dead(name, facts, None, "its lease has ended") for name, facts in registered.items()]
    first_ms = snapshot.now_ms - _DAY_MS
    noted = [death for death in reversed(list(deaths.values())) if (death.at_ms or 0) >= first_ms]
    return [death for death in (*unnoticed, *noted) if death.name not in alive]
