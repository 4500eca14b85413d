"""How fast each stage has been in the last half minute, as the workers record it in Redis."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from redis.exceptions import ResponseError

from flowq.broker import scripts
from flowq.broker.inspection.throughput_records import PERIOD_MS, SETTLED, Durations, HalfMinute, records_reading
from flowq.broker.records import Snapshot
from flowq.broker.redis_streams import Broker
from flowq.errors import BrokerError
from flowq.graph.compilation.plan import Plan, StagePlan

_SHORTEST_MS = 500
HISTORY_SECONDS = PERIOD_MS // 1000
_PER_OCTAVE = 4
_IMMEDIATELY = 1e-9

Mark = tuple[int, int]
"""A time in ms, and what had been counted by then."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """One stage: messages settled per second, and how long its handler takes. None: unknown.

    `history` has the speeds of up to seven periods of `HISTORY_SECONDS`, the latest last. `durations` counts the calls
    that were measured: a busy stage measures one of eight.
    """

    per_second: float | None = None
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    history: tuple[float, ...] = ()
    durations: Durations = field(default_factory=dict[int, int])

    def as_json(self) -> dict[str, float | None]:
        """All of it, rounded, ready for JSON."""
        return {
            "rate": None if self.per_second is None else round(self.per_second, 1),
            "p50_seconds": self.p50_seconds,
            "p95_seconds": self.p95_seconds,
        }


def bucket_of(seconds: float) -> int:
    """The bucket of a duration. Each is 19 % wider than the one before, whatever the scale.

    >>> bucket_of(0.0101) == bucket_of(0.0104), bucket_of(0.010) < bucket_of(0.012)
    (True, True)
    """
    squared = seconds * seconds
    return math.frexp(squared * squared + _IMMEDIATELY**_PER_OCTAVE)[1]  # a quarter of the price of a logarithm


@lru_cache
def bounds_of(bucket: int) -> tuple[float, float]:
    """The seconds from which, and below which, a duration is in a bucket. What takes no time is in the first.

    >>> bounds_of(bucket_of(0.0101))
    (0.00929, 0.011)
    """
    low, high = (float(f"{2 ** (end / _PER_OCTAVE):.3g}") for end in (bucket - 1, bucket))
    return low, high


def quantile(durations: Durations, share: float) -> float | None:
    """The seconds within which a share of the calls ended, to within a tenth.

    >>> quantile({bucket_of(0.010): 90, bucket_of(2.0): 10}, 0.5)
    0.0101
    """
    left = share * sum(durations.values())
    for bucket in sorted(durations):
        left -= durations[bucket]
        if left <= 0 < durations[bucket]:
            return float(f"{2 ** ((bucket - 0.5) / _PER_OCTAVE):.3g}")
    return None


class Throughputs:
    """The throughput of all stages of one pipeline."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def record(
        self,
        durations: Mapping[str, Durations],
        *,
        worker: str = "",
        in_handlers: Mapping[str, int] = MappingProxyType({}),
        edges: Sequence[str] = (),
    ) -> None:
        """Add the durations of handler calls, by stage. The counters are recorded even without any.

        `in_handlers` are the messages that are in handlers of `worker`, by stage. `edges` are those whose messages are
        to be counted, if no worker has done so in this period. What Redis refuses is lost: a missing statistic must not
        stop a worker.
        """
        flat = [
            word
            for stage, counts in durations.items()
            for item in counts.items()
            for word in (f"{stage} {item[0]}", item[1])
        ]
        keys = self._broker.keys
        counted = [key for edge in edges for key in (keys.edge(edge), keys.delayed(edge))]
        told = " ".join(f"{stage} {n}" for stage, n in in_handlers.items())
        with contextlib.suppress(BrokerError, ResponseError):
            await self._broker.script(
                scripts.RECORD_THROUGHPUT,
                [keys.stats, keys.run, *keys.throughput(), *counted],
                PERIOD_MS,
                worker,
                told,
                len(edges),
                *edges,
                *flat,
                caller=f"{self._broker.name}:tempo",
            )

    async def of(self, plan: Plan, snapshot: Snapshot) -> Mapping[str, Throughput]:
        """The throughput of every stage, up to the moment of the snapshot."""
        found = await self._broker.read(records_reading(self._broker.keys))
        return throughput_of(plan, HalfMinute.of(found, snapshot), snapshot)


def throughput_of(plan: Plan, recorded: HalfMinute, snapshot: Snapshot) -> Mapping[str, Throughput]:
    """The throughput of every stage in the half minute before the snapshot."""
    durations = recorded.durations
    return {
        stage.name: _throughput(durations.get(stage.name, {}), _marks(stage, recorded, snapshot.counters))
        for stage in plan.stages
    }


def _marks(stage: StagePlan, recorded: HalfMinute, counters: Mapping[str, int]) -> Sequence[Mark]:
    """How much a stage had settled, or a source had emitted, over time."""
    name = stage.name
    if stage.is_source:
        return recorded.counted(f"out:{name}", counters.get(f"out:{name}", 0))
    return recorded.settled(name, sum([counters.get(f"{kind}:{name}", 0) for kind in SETTLED]))


def _throughput(durations: Durations, marks: Sequence[Mark]) -> Throughput:
    return Throughput(
        per_second(marks),
        quantile(durations, 0.5),
        quantile(durations, 0.95),
        history=tuple([speed for pair in itertools.pairwise(marks) if (speed := per_second(pair)) is not None]),
        durations=durations,
    )


def per_second(marks: Sequence[Mark]) -> float | None:
    """How much a sum has grown per second between the first and the last of these moments; None if they are too close.

    A replay subtracts dead letters from what was settled: the speed is then 0, not negative.
    """
    (first_ms, first), (last_ms, last) = marks[0], marks[-1]
    return max(0, last - first) * 1000 / (last_ms - first_ms) if last_ms - first_ms >= _SHORTEST_MS else None
