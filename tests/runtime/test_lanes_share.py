"""What a process runs and reads ahead is for all of its shards together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import flowq
from flowq.broker.keys import GROUP
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.delivery.encoding.dedup_key import dedup_hash
from flowq.delivery.placement import cell_of_hash, cells
from tests.eventually import eventually
from tests.runtime.lab import Lab

SHARDS, SLOTS = 8, 8
ONE_SHARD, ANOTHER = 2, 5


def shard_of_number(number: int) -> int:
    return cells(SHARDS)[cell_of_hash(dedup_hash(number))]


def numbers_in(shard: int, n: int) -> list[int]:
    return [number for number in range(100 * n) if shard_of_number(number) == shard][:n]


class Holding:
    """A pipeline whose handlers hold each number until its shard is let go. What it holds is counted by shard."""

    def __init__(self, lab: Lab, name: str, numbers: Sequence[int]) -> None:
        self.running = Counter[int]()
        self.go = [asyncio.Event() for _ in range(SHARDS)]

        @flowq.source
        async def all_numbers() -> AsyncIterator[int]:
            for number in numbers:
                yield number

        @flowq.stage(concurrency=SLOTS, dedup=lambda number: number)
        async def hold(number: int) -> None:
            shard = shard_of_number(number)
            self.running[shard] += 1
            await self.go[shard].wait()
            self.running[shard] -= 1

        self._pipeline = flowq.Pipeline(name, all_numbers >> hold, shards=SHARDS)
        self._broker = with_shards(Broker(lab.dialer, lab.broker(self._pipeline).keys), SHARDS)
        self._run = asyncio.create_task(flowq.run(self._pipeline, redis=lab.dialer.url, namespace=lab.namespace))

    async def pending(self) -> list[int]:
        """How many messages the process has received and not settled, by shard."""
        found = [
            await each.answer(b"XPENDING", each.keys.edge("all_numbers>hold"), GROUP) for each in self._broker.shards
        ]
        return [int(answer[0]) for answer in found]

    async def stored(self) -> int:
        """How many messages are in all shards."""
        return sum(
            [int(await each.answer(b"XLEN", each.keys.edge("all_numbers>hold"))) for each in self._broker.shards]
        )

    async def end(self) -> flowq.RunSummary:
        for event in self.go:
            event.set()
        try:
            return await self._run
        finally:
            await close_shards(self._broker)


async def test_a_process_receives_no_more_for_eight_shards_than_it_can_run(lab: Lab) -> None:
    holding = Holding(lab, "fair", range(400))
    await eventually(lambda: holding.running.total() == SLOTS)

    async def all_have_some() -> bool:
        return await holding.stored() == 400 and min(await holding.pending()) > 0

    await eventually(all_have_some)
    assert sum(await holding.pending()) <= 2 * SLOTS

    summary = await holding.end()
    assert summary.drained
    assert summary.stages["hold"].entered == 400


async def test_one_shard_has_the_slots_that_no_other_needs(lab: Lab) -> None:
    holding = Holding(lab, "skew", [*numbers_in(ANOTHER, SLOTS), *numbers_in(ONE_SHARD, 5 * SLOTS)])
    await eventually(lambda: holding.running.total() == SLOTS)

    holding.go[ANOTHER].set()

    await eventually(lambda: holding.running[ONE_SHARD] == SLOTS)
    assert (await holding.end()).drained
