"""What workers have recorded in Redis in the last half minute, period by period."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import cast

from flowq.broker.client.rounds import Rounds
from flowq.broker.keys import Keys
from flowq.broker.records import Snapshot
from flowq.delivery.stored import count_in, moment_in, text_in

PERIOD_MS = 5000
SETTLED = "ok", "filtered", "dead"
"""The counters of a stage whose sum is what it has settled."""
_LARGEST_BUCKET = 400  # of years

Durations = Mapping[int, int]
"""How many handler calls took how long, by `bucket_of` their seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class PeriodRecord:
    """One period of a run: the counters at its beginning, and what workers have added since. `name` is unique.

    `settled` is what each stage had settled by then; `counters` are the others.

    `durations` are by stage. `in_handlers` has, by worker, the messages in its handlers by stage when it last reported.
    `outstanding` has the messages on each edge at `counted_ms`; earlier versions do not count them.
    """

    name: str
    run: str
    at_ms: int
    counters: Mapping[str, int]
    settled: Mapping[str, int]
    durations: Mapping[str, Durations]
    in_handlers: Mapping[str, Mapping[str, int]]
    counted_ms: int
    outstanding: Mapping[str, int]

    @classmethod
    def parse(cls, flat: Sequence[bytes]) -> PeriodRecord:
        """A record from the fields of its hash. Those that no worker of flowq writes are left out."""
        period, run, at_ms, counted_ms = "", "", 0, 0
        counters: dict[str, int] = {}
        settled = Counter[str]()
        durations: dict[str, dict[int, int]] = {}
        in_handlers: dict[str, Mapping[str, int]] = {}
        outstanding: dict[str, int] = {}
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            kind, what, bucket = _field(name)
            if kind == "durations":
                durations.setdefault(what, {})[bucket] = max(0, count_in(value))
            elif kind == "counter":
                counters[what] = count_in(value)
            elif kind == "settled":
                settled[what] += count_in(value)
            elif kind == "worker":
                in_handlers[what] = _counts(text_in(value))
            elif kind == "edge":
                outstanding[what] = max(0, count_in(value))
            elif name == b"period":
                period = text_in(value)
            elif name == b"run":
                run = text_in(value)
            elif name == b"at":
                at_ms = moment_in(value)
            elif name == b"counted_at":
                counted_ms = moment_in(value)
        return cls(period, run, at_ms, counters, settled, durations, in_handlers, counted_ms, outstanding)


@lru_cache(10_000)  # the same fields are in every record
def _field(name: bytes) -> tuple[str, str, int]:
    """What a field is about: a counter, a worker, an edge, durations in one bucket of a stage, or something else."""
    text = text_in(name)
    first, _, rest = text.partition(" ")
    if text.startswith("@"):
        return "worker", text[1:], 0
    if text.startswith("outstanding:"):
        return "edge", text.removeprefix("outstanding:"), 0
    if first == "was" and ":" in rest:
        counted, _, stage = rest.partition(":")
        return ("settled", stage, 0) if counted in SETTLED else ("counter", rest, 0)
    bucket = count_in(rest)
    return ("durations" if rest and abs(bucket) <= _LARGEST_BUCKET else "", first, bucket)


def _counts(text: str) -> Mapping[str, int]:
    words = text.split(" ")
    return {stage: max(0, count_in(n)) for stage, n in zip(words[::2], words[1::2], strict=False)}


_NONE: Mapping[str, Durations] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class HalfMinute:
    """What was recorded in a run in the last half minute, up to `now_ms`: `records`, the oldest first.

    `over` are those, by name, to which nothing more is added.
    """

    now_ms: int
    records: Sequence[PeriodRecord]
    over: Mapping[str, PeriodRecord]
    durations_over: Mapping[str, Durations]

    @classmethod
    def of(cls, found: Mapping[str, PeriodRecord], snapshot: Snapshot, before: HalfMinute | None = None) -> HalfMinute:
        """These records, if they are of the run of the snapshot. `before` saves adding up the same ones again."""
        run, period = snapshot.run.get("id", ""), snapshot.now_ms // PERIOD_MS
        ours = {name: record for name, record in found.items() if record.run == run}
        over = {name: record for name, record in ours.items() if record.at_ms // PERIOD_MS < period}
        is_as_before = before is not None and list(before.over.values()) == list(over.values())
        summed = before.durations_over if before is not None and is_as_before else added_up(over.values())
        return cls(snapshot.now_ms, sorted(ours.values(), key=lambda each: each.at_ms), over, summed)

    @property
    def durations(self) -> Mapping[str, Durations]:
        """The durations of the calls of each stage, of all workers together."""
        return added_up((record for record in self.records if record not in self.over.values()), self.durations_over)

    @property
    def in_handlers(self) -> Mapping[str, Mapping[str, int]]:
        """By worker, the messages in its handlers by stage, as it last reported."""
        told: dict[str, Mapping[str, int]] = {}
        for record in self.records:
            told.update(record.in_handlers)
        return told

    @property
    def levels(self) -> Sequence[tuple[int, Mapping[str, int]]]:
        """The moments in ms at which the messages on the edges were counted, each with their numbers."""
        return [(record.counted_ms, record.outstanding) for record in self.records if record.outstanding]

    def settled(self, stage: str, now: int) -> list[tuple[int, int]]:
        """What a stage had settled at the moments in ms at which that was recorded, and has settled `now`."""
        return [*((record.at_ms, record.settled.get(stage, 0)) for record in self.records), (self.now_ms, now)]

    def counted(self, counter: str, now: int) -> list[tuple[int, int]]:
        """What a counter was at the moments in ms at which it was recorded, and is `now`."""
        return [*((record.at_ms, record.counters.get(counter, 0)) for record in self.records), (self.now_ms, now)]

    def grown(self, counter: str, now: int) -> list[tuple[int, int]]:
        """What a counter was at the first moment at which it was recorded, and is `now`."""
        first = [(record.at_ms, record.counters.get(counter, 0)) for record in self.records[:1]]
        return [*first, (self.now_ms, now)]


def added_up(records: Iterable[PeriodRecord], to: Mapping[str, Durations] = _NONE) -> dict[str, Durations]:
    """The durations of several records together."""
    sums = {stage: Counter(durations) for stage, durations in to.items()}
    for record in records:
        for stage, durations in record.durations.items():
            sums.setdefault(stage, Counter()).update(durations)
    return {**sums}


def records_reading(keys: Keys, before: HalfMinute | None = None) -> Rounds[Mapping[str, PeriodRecord]]:
    """The records that there are, by name. Those of periods that were over in an earlier look are not read again."""
    found: dict[str, PeriodRecord] = {}
    missing = keys.throughput()
    if before is not None and before.over:
        names = yield [(b"HGET", key, b"period") for key in missing]
        here = {key: text_in(name) for key, name in zip(missing, names, strict=True) if isinstance(name, bytes)}
        found = {name: before.over[name] for name in here.values() if name in before.over}
        missing = [key for key, name in here.items() if name not in found]
    replies = (yield [(b"HGETALL", key) for key in missing]) if missing else ()
    for reply in replies:
        if isinstance(reply, list) and reply:
            record = PeriodRecord.parse(cast("list[bytes]", reply))
            found[record.name] = record
    return found
