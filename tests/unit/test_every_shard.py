"""All shards are asked at once, and a view waits for one that does not answer no longer than it has patience."""

from __future__ import annotations

import asyncio

import pytest

from flowq.broker.client.memory import MemoryDialer
from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import with_shards
from flowq.broker.shards.every_shard import SilentShard, ask_every_shard, ask_for_a_view
from flowq.errors import BrokerUnavailable
from tests.eventually import eventually


class Shards:
    """Three shards, some of which never answer and others cannot be reached."""

    def __init__(self, *, never: set[int], unreachable: set[int]) -> None:
        self.broker = with_shards(Broker(MemoryDialer(), Keys("flowq", "lab")), 3)
        self._never, self._unreachable = never, unreachable
        self.asked = list[int]()
        self.cancelled = set[int]()

    async def ask(self, broker: Broker) -> str:
        self.asked.append(broker.shard)
        if broker.shard in self._unreachable:
            raise BrokerUnavailable("cannot reach it")
        if broker.shard in self._never:
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.add(broker.shard)
        return f"answer {broker.shard}"


async def test_a_shard_that_never_answers_is_silent_once_patience_runs_out() -> None:
    shards = Shards(never={1}, unreachable=set())

    answers = await ask_every_shard(shards.broker, shards.ask, patience_seconds=0.01)

    assert answers.by_shard == {0: "answer 0", 2: "answer 2"}
    assert [each.shard for each in answers.silent] == [1]
    assert answers.silent[0].error.detail == "no answer in time"
    assert shards.cancelled == {1}


async def test_a_shard_that_cannot_be_reached_does_not_count_as_an_answer() -> None:
    shards = Shards(never={0, 1}, unreachable={2})

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ask_every_shard(shards.broker, shards.ask, patience_seconds=0.0)

    await eventually(lambda: shards.cancelled == {0, 1})  # no one waits for their answers any more


async def test_without_a_limit_each_shard_may_take_its_time() -> None:
    shards = Shards(never={1}, unreachable=set())

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ask_every_shard(shards.broker, shards.ask)


async def test_a_view_asks_a_shard_that_was_silent_no_second_time() -> None:
    shards, silent = Shards(never=set(), unreachable={1}), dict[int, SilentShard]()

    for _ in range(3):
        answers = await ask_for_a_view(shards.broker, shards.ask, silent)
        assert answers == {0: "answer 0", 2: "answer 2"}

    assert silent.keys() == {1}
    assert sorted(shards.asked) == [0, 0, 0, 1, 2, 2, 2]
