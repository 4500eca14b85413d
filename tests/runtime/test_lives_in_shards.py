"""Each message is handled once, in the shard where it lives: whatever sent it, and from where."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

import flowq
from flowq.broker.migration.resharding import Resharding
from flowq.broker.publishing import Publishing
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.dead_letters.kept import Kept
from flowq.dead_letters.selection import Selection
from flowq.delivery.encoding.dedup_key import dedup_hash
from flowq.delivery.message import Header
from flowq.delivery.placement import cell_of_hash, cells, shard_of
from flowq.delivery.settlement import Output
from tests.runtime import process_stages
from tests.runtime.lab import Lab

SHARDS, MESSAGES = 4, 40


async def counted(lab: Lab, field: str, pipeline: flowq.Pipeline) -> list[int]:
    """A counter of each shard."""
    broker = with_shards(Broker(lab.dialer, lab.broker(pipeline).keys), SHARDS)
    try:
        return [int(await each.answer(b"HGET", each.keys.stats, field) or 0) for each in broker.shards]
    finally:
        await close_shards(broker)


def n_bodies(store: Path) -> int:
    return sum(path.is_file() and path.stat().st_size >= 5_000 for path in store.rglob("*"))


def shard_of_number(number: int) -> int:
    return cells(SHARDS)[cell_of_hash(dedup_hash(number))]


async def test_messages_of_a_publisher_from_before_go_to_the_shards_of_their_keys(lab: Lab) -> None:
    seen = Counter[int]()

    @flowq.stage(dedup=lambda number: number, keep=100)
    async def take(number: int) -> None:
        seen[number] += 1

    pipeline = flowq.Pipeline("inlets", take, shards=SHARDS)
    messages = [
        Output(">take", Header.entering(f"m{number}").encode(), b"%d" % number, dedup_hash(number))
        for number in range(MESSAGES)
    ]
    await Publishing(lab.broker(pipeline)).publish(">take", messages, dedup=pipeline.plan.stage("take").dedup_memory)

    summary = await flowq.run(pipeline, redis=lab.dialer.url, namespace=lab.namespace)

    lives = Counter(map(shard_of_number, range(MESSAGES)))
    assert summary.drained
    assert seen == Counter(range(MESSAGES))
    assert await counted(lab, "in:>take", pipeline) == [MESSAGES, lives[1], lives[2], lives[3]]
    broker = with_shards(Broker(lab.dialer, lab.broker(pipeline).keys), SHARDS)
    kept = [await each.answer(b"XLEN", each.keys.kept("take")) for each in broker.shards]
    await close_shards(broker)
    assert kept == [lives[0], lives[1], lives[2], lives[3]]


@pytest.mark.parametrize(
    "options", [{"rate": flowq.Rate(10_000, by=lambda number: number)}, {"dedup": str}], ids=["rate", "dedup"]
)
async def test_entries_of_other_programs_are_handled_once_where_they_live(lab: Lab, options: dict[str, object]) -> None:
    seen = Counter[int]()

    async def take(number: int) -> None:
        seen[number] += 1

    pipeline = flowq.Pipeline("foreign", flowq.stage(name="take", **options)(take), shards=SHARDS)  # type: ignore[call-overload]
    keys = lab.broker(pipeline).keys
    for number in range(MESSAGES):
        await lab.command(b"XADD", keys.edge(">take"), b"*", b"b", b"%d" % number)

    summary = await flowq.run(pipeline, redis=lab.dialer.url, namespace=lab.namespace)

    assert summary.drained
    assert seen == Counter(range(MESSAGES))
    assert all(balance.adds_up for balance in summary.stages.values())


async def test_what_is_put_back_after_the_number_of_shards_has_changed_is_no_duplicate_of_itself(lab: Lab) -> None:
    seen, unfit = Counter[int](), range(0, MESSAGES, 2)
    where: Any = {"redis": lab.dialer.url, "namespace": lab.namespace}

    @flowq.stage(dedup=flowq.Dedup(str, scope="forever"), keep=100)
    async def take(number: int) -> None:
        if number in unfit:
            raise flowq.Reject("not yet")
        seen[number] += 1

    whole, divided = flowq.Pipeline("back", take), flowq.Pipeline("back", take, shards=SHARDS)
    async with flowq.Publisher(whole, **where) as publisher:
        await publisher.push_many(take, range(MESSAGES))
    await flowq.run(whole, **where)
    broker, unfit = with_shards(Broker(lab.dialer, lab.broker(divided).keys), SHARDS), range(0)
    assert (await Resharding(broker, divided.plan).carry_out()).values > 0

    await DeadLetters(divided.plan, broker).put_back(Selection())
    await Kept(divided.plan, broker, "take").replay()
    await close_shards(broker)
    await flowq.run(divided, **where)

    assert seen == Counter({number: 1 + number % 2 for number in range(MESSAGES)})


async def test_what_cannot_be_read_becomes_a_dead_letter_of_shard_0(lab: Lab) -> None:
    @flowq.stage(dedup=str)
    async def take(number: int) -> None: ...

    pipeline = flowq.Pipeline("unreadable", take, shards=SHARDS)
    keys = lab.broker(pipeline).keys
    await lab.command(b"XADD", keys.edge(">take"), b"*", b"b", b"no number")

    await flowq.run(pipeline, redis=lab.dialer.url, namespace=lab.namespace)

    assert await lab.command(b"XLEN", keys.dead("take")) == 1


async def test_handlers_in_other_processes_address_what_they_return(lab: Lab) -> None:
    pipeline, doubled = process_stages.DOUBLING.tuned({}, shards=SHARDS), process_stages.doubled
    doubled.clear()
    async with flowq.Publisher(pipeline, redis=lab.dialer.url, namespace=lab.namespace) as publisher:
        await publisher.push_many("double", range(MESSAGES))

    await flowq.run(pipeline, redis=lab.dialer.url, namespace=lab.namespace)

    assert Counter(doubled) == Counter(range(0, 2 * MESSAGES, 2))
    lives = Counter(cells(SHARDS)[cell_of_hash(dedup_hash(str(number)))] for number in doubled)
    assert await counted(lab, "in:double>gather", pipeline) == [lives[shard] for shard in range(SHARDS)]


async def test_a_stage_with_one_rate_has_all_it_was_sent_in_its_home(lab: Lab) -> None:
    @flowq.stage(rate=flowq.Rate(10_000))
    async def take(number: int) -> None: ...

    @flowq.stage(place="spread")
    async def give(number: int) -> int:
        return number

    pipeline = flowq.Pipeline("home", give >> take, shards=SHARDS)
    async with flowq.Publisher(pipeline, redis=lab.dialer.url, namespace=lab.namespace) as publisher:
        await publisher.push_many(give, range(MESSAGES))

    await flowq.run(pipeline, redis=lab.dialer.url, namespace=lab.namespace)

    home = shard_of(b"take", SHARDS)
    assert await counted(lab, "in:give>take", pipeline) == [MESSAGES * (shard == home) for shard in range(SHARDS)]


async def test_what_a_stage_sends_after_it_has_acknowledged_is_deduplicated_where_it_lives(lab: Lab) -> None:
    seen = Counter[int]()

    @flowq.stage(ack="first", place="spread")
    async def halve(number: int) -> int:
        return number // 2

    @flowq.stage(dedup=str)
    async def take(number: int) -> None:
        seen[number] += 1

    pipeline = flowq.Pipeline("early", halve >> take, shards=SHARDS)
    async with flowq.Publisher(pipeline, redis=lab.dialer.url, namespace=lab.namespace) as publisher:
        await publisher.push_many(halve, range(2 * MESSAGES))

    summary = await flowq.run(pipeline, redis=lab.dialer.url, namespace=lab.namespace)

    assert seen == Counter(range(MESSAGES))
    assert summary.stages["take"].duplicates == MESSAGES


async def test_large_bodies_are_kept_in_the_store_wherever_their_messages_live(lab: Lab, tmp_path: Path) -> None:
    taken = Counter[str]()

    @flowq.stage(place="spread")
    async def grow(number: int) -> str:
        return str(number) * 5_000

    @flowq.stage(place=itemgetter(0), claim_above=1_000, keep=100)
    async def take(text: str) -> None:
        taken[text[:1]] += 1

    pipeline = flowq.Pipeline("large", grow >> take, shards=SHARDS)
    where: Any = {"redis": lab.dialer.url, "namespace": lab.namespace, "claim_store": tmp_path}
    async with flowq.Publisher(pipeline, **where) as publisher:
        await publisher.push_many(grow, range(10))
        await publisher.push(take, "a" * 5_000, id="large")

    summary = await flowq.run(pipeline, **where)

    assert summary.drained
    assert taken == Counter([*map(str, range(10)), "a"])
    assert n_bodies(tmp_path) == 11
