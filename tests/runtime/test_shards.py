"""A pipeline with several shards, run by programs: all arrives in its shard, and the run ends when all is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

import flowq
from flowq.broker.keys import Keys
from flowq.broker.migration.resharding import Resharding
from flowq.broker.records import TAKES_PART
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.broker.shards.layout import LAYOUT_FIELD, WrongLayout, read_layout
from flowq.broker.workers import Workers
from tests.runtime.lab import Lab


async def test_a_pipeline_of_four_shards_drains_exactly(lab: Lab) -> None:
    seen = Counter[int]()

    @flowq.source
    async def numbers(up_to: int) -> AsyncIterator[int]:
        for number in range(up_to):
            yield number

    @flowq.stage(dedup=str)
    async def halve(number: int) -> str | None:
        return str(number // 2) if number else None

    @flowq.stage(dedup=str)
    async def show(half: str) -> None:
        seen[int(half)] += 1

    pipeline = flowq.Pipeline("shards", numbers >> halve >> show, shards=4)

    summary = await flowq.run(pipeline, redis=lab.dialer.url, namespace=lab.namespace, arguments={"up_to": 200})

    assert summary.drained
    assert seen == Counter(range(100))
    assert summary.stages["show"].entered == 100
    assert summary.stages["show"].duplicates == 99
    assert all(balance.adds_up for balance in summary.stages.values())


async def test_runs_drain_with_fewer_shards_than_messages_were_sent_between_before(lab: Lab) -> None:
    seen = Counter[int]()
    where: Any = {"redis": lab.dialer.url, "namespace": lab.namespace}

    @flowq.stage(place=str)
    async def enter(number: int) -> int:
        return number

    @flowq.stage(place=lambda number: -number)
    async def leave(number: int) -> None:
        seen[number] += 1

    def divided(n_shards: int) -> flowq.Pipeline:
        return flowq.Pipeline("fewer", enter >> leave, shards=n_shards)

    for n_shards in (4, 2, 3, 1):
        home = lab.broker(divided(n_shards))
        await Resharding(with_shards(home, await read_layout(home) or n_shards), divided(n_shards).plan).carry_out()
        async with flowq.Publisher(divided(n_shards), **where) as publisher:
            await publisher.push_many(enter, range(60))

        summary = await flowq.run(divided(n_shards), **where)

        assert summary.drained
        await close_shards(home)
    assert seen == Counter(dict.fromkeys(range(60), 4))


async def test_groups_that_a_shard_creates_leave_its_process_registered(lab: Lab) -> None:
    registered = list[str]()
    broker = Broker(lab.dialer, Keys(lab.namespace, "pushed"))

    @flowq.stage
    async def look(number: int) -> None:
        found = await Workers(broker).registered()
        registered.extend([name for name, facts in found.items() if facts.get(TAKES_PART)])

    pipeline = flowq.Pipeline("pushed", look, shards=2)
    async with flowq.Publisher(pipeline, redis=lab.dialer.url, namespace=lab.namespace) as publisher:
        await publisher.push_many("look", range(20))  # so that streams exist before their groups do

    await flowq.run(pipeline, redis=lab.dialer.url, namespace=lab.namespace)
    await broker.close()

    assert len(registered) == 20
    assert len(set(registered)) == 1


async def test_a_worker_that_meets_another_layout_stops_and_says_what_to_do(lab: Lab) -> None:
    @flowq.source
    async def numbers() -> AsyncIterator[int]:
        for number in range(50):
            yield number

    @flowq.stage
    async def spread(number: int) -> str:
        for shard in range(4):
            keys = Keys(lab.namespace, "moved").in_shard(shard)
            await lab.command(b"HSET", keys.heads, LAYOUT_FIELD, b"moving")
        return str(number)

    @flowq.stage(dedup=str)
    async def show(text: str) -> None: ...

    pipeline = flowq.Pipeline("moved", numbers >> spread >> show, shards=4)

    with pytest.raises(WrongLayout, match="are being moved") as stopped:
        await flowq.run(pipeline, redis=lab.dialer.url, namespace=lab.namespace)

    assert stopped.value.code == "FQ408"
    assert "flowq apply moved" in stopped.value.hint
