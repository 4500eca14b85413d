"""A pipeline of two stages that records what its handlers see, and the promises about that record."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from flowq import Context, Pipeline, Stage, stage
from tests.runtime.lab import Item

SHORT_LEASE_SECONDS = 0.8


@dataclass
class Record:
    """What the handlers of a pipeline saw. Each appended output has its own id, however often it is handled."""

    handled: Counter[int] = field(default_factory=Counter)
    arrived: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    def check(self, inputs: int, *, reruns: int) -> None:
        """Every input arrived at the end, by one output each; no more handlers ran than the faults explain."""
        assert sorted(self.arrived) == list(range(inputs))
        assert {len(ids) for ids in self.arrived.values()} == {1}
        assert sum(self.handled.values()) <= inputs + reruns


def recorded(
    record: Record,
    *,
    seconds: float = 0.0,
    concurrency: int = 10,
    dedup: str | None = None,
    lasts_until: asyncio.Event | None = None,
) -> Pipeline:
    """Two stages that write down what they see; the first takes so many seconds for each message.

    `dedup`: by which field the last one deduplicates. `lasts_until`: what message 0 waits for, so that a run lasts.
    """

    @stage(concurrency=concurrency)
    async def first(item: Item) -> Item:
        record.handled[item.n] += 1
        if seconds:
            await asyncio.sleep(seconds)
        if lasts_until and item.n == 0:
            await lasts_until.wait()
        return item

    @stage(dedup=dedup)
    async def last(item: Item, ctx: Context) -> None:
        record.arrived[item.n].add(ctx.message_id)

    return Pipeline("p", first >> last)


def collecting() -> tuple[Stage[Item, None], list[int]]:
    """A last stage `sink`, and the numbers that it has got so far."""
    got: list[int] = []

    @stage
    async def sink(item: Item) -> None:
        got.append(item.n)

    return sink, got
