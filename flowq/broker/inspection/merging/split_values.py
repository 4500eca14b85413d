"""Finds deduplicated values whose messages have two places: they are equal, and both are handled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowq.broker.migration.stored_seen import StoredSeen
from flowq.broker.redis_streams import Broker
from flowq.delivery.placement import CELL_BYTES
from flowq.errors import Problem, Problems
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.routing import carries_cell

MOST_REMEMBERED = 1_000_000
_BYTES_OF_SAMPLE = 4
_CHANCE = 4.0  # times as many as the hashes of different values that are expected to be the same


class Sample:
    """Of all hashes that are added, those of a part of all values: the same part whichever shard they come from."""

    def __init__(self, n_hash_bytes: int, *, most: int = MOST_REMEMBERED) -> None:
        self._n_hash_bytes = n_hash_bytes
        self._most = most
        self._mask = 0
        self._cells: dict[bytes, bytes] = {}
        self._split: set[bytes] = set()

    def add(self, stored: bytes) -> None:
        """Note a hash, as it is stored with the cell of its message behind it."""
        value, cell = stored[: self._n_hash_bytes], stored[self._n_hash_bytes : self._n_hash_bytes + CELL_BYTES]
        if not self._is_in(value):
            return
        if self._cells.setdefault(value, cell) != cell:
            self._split.add(value)
        if len(self._cells) > self._most:
            self._mask = 2 * self._mask + 1
            self._cells = {each: cell for each, cell in self._cells.items() if self._is_in(each)}
            self._split = {each for each in self._split if self._is_in(each)}

    def _is_in(self, value: bytes) -> bool:
        return not int.from_bytes(value[:_BYTES_OF_SAMPLE]) & self._mask

    @property
    def n_values(self) -> int:
        return len(self._cells)

    @property
    def n_split(self) -> int:
        """How many values have two places; 0 if so many hashes may be the same by chance."""
        n_all = len(self._cells) * (self._mask + 1)
        by_chance = len(self._cells) * n_all / 2 ** (8 * self._n_hash_bytes + 1)
        return len(self._split) if len(self._split) > _CHANCE * by_chance else 0


@dataclass(frozen=True, slots=True)
class SplitValues:
    """How many of the values of a stage that were looked at have two places."""

    stage: str
    n_values: int
    n_split: int


async def split_values(broker: Broker, plan: Plan) -> Sequence[SplitValues]:
    """Look through what each stage has seen that deduplicates by one key and is placed by another, in all shards.

    Reads all of it, and compares a million values at most. What a stage has seen while it had one shard does not tell
    its place, and is passed over. Raises BrokerUnavailable, also if one shard does not answer.
    """
    stages = [stage for stage in plan.consumers if carries_cell(plan, stage)]
    return [await _split_values_of(broker, stage) for stage in stages]


async def _split_values_of(broker: Broker, stage: StagePlan) -> SplitValues:
    memory = stage.dedup_memory
    assert memory is not None
    sample = Sample(memory.hash_bytes)
    for each in broker.shards:
        stored = StoredSeen(each, stage)
        form = await stored.form()
        if form is None or form.n_bytes < memory.with_cells().hash_bytes:
            continue
        async for bucket in stored.buckets():
            for value in form.values(bucket.number, bucket.text):
                sample.add(value)
    return SplitValues(stage.name, sample.n_values, sample.n_split)


def split_values_findings(found: Sequence[SplitValues]) -> Sequence[Problem]:
    """A problem for each stage that handles equal messages twice."""
    problems = Problems()
    for each in found:
        if each.n_split:
            problems.warn(
                "FQ438",
                f"{each.n_split:,} of {each.n_values:,} values that {each.stage} deduplicates have two places: "
                "equal messages are handled in both",
                hint="what decides the place, by= of its rate or place=, must follow from what dedup= compares",
            )
    return problems.found
