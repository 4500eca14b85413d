"""Batches keep their limits of size and time, and one bad message costs only itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

from flowq import Context, Pipeline, RetryLater, stage
from flowq.broker.workers import Workers
from tests.eventually import eventually
from tests.runtime.kit import Kit
from tests.runtime.lab import Item, Lab, Other, items
from tests.runtime.record import collecting


async def test_a_batch_holds_no_more_than_it_may_and_every_message_once(any_lab: Lab) -> None:
    batches: list[list[int]] = []

    @stage(batch=7, linger=0.05)
    async def store(batch: list[Item]) -> None:
        batches.append([item.n for item in batch])

    summary = await any_lab.run(Pipeline("p", store), *items(30))

    assert sorted(n for batch in batches for n in batch) == list(range(30))
    assert max(map(len, batches)) == 7
    assert summary.stages["store"].ok == 30


async def test_a_batch_that_does_not_fill_is_handled_when_its_linger_is_over(kit: Kit) -> None:
    @stage(batch=100, linger="1h")
    async def store(batch: list[Item]) -> None: ...

    async with kit(Pipeline("p", store)) as h:
        await h.feed(store, *items(3))
        fed_at = h.now
        await h.drain()

        (call,) = h.calls(store)
        assert call.message == items(3)
        assert timedelta(hours=1) <= call.at - fed_at < timedelta(hours=1, seconds=1)


async def test_a_batch_that_is_full_does_not_linger(kit: Kit) -> None:
    @stage(batch=10, linger="1h")
    async def store(batch: list[Item]) -> None: ...

    async with kit(Pipeline("p", store)) as h:
        began_at = h.now
        await h.feed(store, *items(40))
        await h.drain()

        calls = h.calls(store)
        assert [len(call.message) for call in calls] == [10] * 4
        assert calls[-1].at - began_at < timedelta(seconds=1)


async def test_batches_run_side_by_side_up_to_the_concurrency(lab: Lab) -> None:
    two_together = asyncio.Barrier(2)

    @stage(batch=5, linger=0.5, concurrency=2)
    async def store(batch: list[Item]) -> None:
        await two_together.wait()

    await lab.run(Pipeline("p", store), *items(20))


async def test_a_batch_that_asks_for_later_is_delayed_as_a_whole_and_not_taken_apart(kit: Kit) -> None:
    @stage(batch=8, linger="1m", concurrency=1)
    async def store(batch: list[Item], ctx: Context) -> None:
        if ctx.attempt == 1:
            raise RetryLater("database is restarting", after="1h")

    async with kit(Pipeline("p", store)) as h:
        await h.feed(store, *items(8))
        await h.drain()

        first, second = h.calls(store)
        assert len(first.message) == len(second.message) == 8
        assert second.at - first.at >= timedelta(hours=1)
        assert h.balance()["store"].retries == 8


async def test_a_batch_gives_outputs_once_for_all(lab: Lab) -> None:
    sink, got = collecting()

    @stage(batch=10, linger=0.1, concurrency=1)
    async def total(batch: list[Item]) -> list[Item]:
        return [Item(n=sum(item.n for item in batch))]

    summary = await lab.run(Pipeline("p", total >> sink), *items(10))

    assert got == [45]
    assert (summary.stages["total"].ok, summary.stages["total"].out) == (10, 1)


async def test_a_batch_on_a_thread_and_one_inline(lab: Lab) -> None:
    got: list[int] = []

    @stage(batch=4, linger=0.02)
    def threaded(batch: list[Item]) -> list[Item]:
        return batch

    @stage(batch=4, linger=0.02, inline=True)
    def inline(batch: list[Item]) -> None:
        got.extend(item.n for item in batch)

    await lab.run(Pipeline("p", threaded >> inline), *items(10))

    assert sorted(got) == list(range(10))


async def test_messages_of_different_edges_do_not_share_a_batch(lab: Lab) -> None:
    got: list[int] = []

    @stage
    async def before(item: Item) -> Item:
        return item

    @stage(batch=10, linger=0.02)
    async def store(batch: list[Item]) -> None:
        got.extend(item.n for item in batch)

    pipeline = Pipeline("p", before >> store)
    await lab.push(pipeline, store, *[Item(n=n) for n in range(10, 20)])
    summary = await lab.run(pipeline, *items(10))

    assert sorted(got) == list(range(20))
    assert summary.stages["store"].ok == 20


async def test_a_batch_holds_no_more_bytes_than_it_may_but_for_a_message_that_is_larger_by_itself(any_lab: Lab) -> None:
    batches: list[list[int]] = []

    @stage(batch=100, batch_bytes=100, linger=0.05)
    async def store(batch: list[Other]) -> None:
        batches.append([len(other.model_dump_json()) for other in batch])

    sizes = [40, 40, 40, 150, 40, 60, 100, 30]
    texts = [Other(text="x" * (size - len(Other().model_dump_json()))) for size in sizes]
    await any_lab.run(Pipeline("p", store), *texts)

    assert sorted(size for batch in batches for size in batch) == sorted(sizes)
    assert [150] in batches
    assert all(sum(batch) <= 100 for batch in batches if batch != [150])
    assert max(map(len, batches)) == 2


async def test_what_was_read_under_an_old_name_shares_no_batch_with_what_was_read_under_a_new_one(lab: Lab) -> None:
    stored: Counter[int] = Counter()

    @stage(batch=4, linger=60.0)
    async def store(items: list[Item]) -> None:
        stored.update(item.n for item in items)

    pipeline = Pipeline("p", store)
    broker, other = lab.broker(pipeline), lab.broker(pipeline)
    await Workers(other).register("other", {"lease_seconds": 60}, lease_ms=60_000, heartbeat="1")
    async with lab.running(pipeline, lease_seconds=1.0) as runner:
        await lab.push(pipeline, store, Item(n=0), Item(n=1))
        old = runner.worker

        async def is_given() -> bool:
            return (await lab.balance(pipeline))["store"].running == 2

        await eventually(is_given)

        async def is_reclaimed() -> bool:
            await lab.command(b"DEL", broker.keys.lease(old))
            return await Workers(other).reclaim(">store", old, "other", limit=10) is not None

        await eventually(is_reclaimed)

        async def reads_under_another_name() -> bool:
            names = (await Workers(broker).consumers_of([">store"]))[">store"]
            return runner.worker != old and runner.worker in names

        await eventually(reads_under_another_name)
        await lab.push(pipeline, store, *[Item(n=n) for n in range(2, 6)])
        await eventually(lambda: stored.keys() >= {2, 3, 4, 5})

        async def only_the_others_are_left() -> bool:
            return (await lab.balance(pipeline))["store"].running == 2

        await eventually(only_the_others_are_left)
