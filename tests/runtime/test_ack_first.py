"""A stage with `ack="first"`: a delivery is settled before its handler runs."""

from __future__ import annotations

import asyncio
import re
import threading

from flowq import Context, Pipeline, stage
from flowq.broker.edges import Edges
from flowq.broker.flow_control.backpressure import Backpressure
from flowq.broker.publishing import Publishing
from flowq.broker.reader import Reader
from flowq.broker.settling import Settling
from flowq.broker.workers import Workers
from flowq.inspector import Inspector
from flowq.runtime.identity import Identity
from flowq.runtime.stage.early_ack import EarlyAck
from flowq.runtime.stage.early_outputs import EarlyOutputs
from flowq.runtime.stage.in_flight import InFlight
from flowq.runtime.stage.settler import Settler
from flowq.testing import Duplicate, harness
from tests.runtime.kit import Kit, seconds_between
from tests.runtime.lab import Item, Lab, Other, items
from tests.runtime.record import collecting
from tests.runtime.stopping import started


async def test_a_message_is_settled_before_its_handler_runs(lab: Lab) -> None:
    outstanding: list[int] = []

    @stage(ack="first")
    async def first(item: Item) -> None:
        outstanding.append((await Edges(broker).outstanding([">first"]))[">first"])

    pipeline = Pipeline("p", first)
    broker = lab.broker(pipeline)

    await lab.run(pipeline, Item())

    assert outstanding == [0]


async def test_a_failure_after_that_is_a_dead_letter_and_never_a_retry(lab: Lab) -> None:
    runs = 0

    @stage(ack="first")
    async def first(item: Item) -> None:
        nonlocal runs
        runs += 1
        raise ConnectionError("no luck")

    pipeline = Pipeline("p", first)
    summary = await lab.run(pipeline, Item(n=5))

    assert runs == 1
    assert (summary.stages["first"].ok, summary.dead) == (0, 1)
    letter = await lab.letter(pipeline, first)
    assert (letter.message, letter.error) == ({"n": 5}, "ConnectionError: no luck")


async def test_a_message_that_was_replayed_and_fails_again_dies_again(lab: Lab) -> None:
    @stage(ack="first")
    async def first(item: Item) -> None:
        raise ConnectionError("no luck")

    pipeline = Pipeline("p", first)
    await lab.run(pipeline, Item())
    for _ in range(2):
        assert await Inspector(pipeline.plan, lab.broker(pipeline)).retry_dead_letters() == {"first": 1}
        await lab.run(pipeline)
        assert len(await lab.letters(pipeline, first)) == 1


async def test_outputs_follow_the_settlement_and_are_counted(lab: Lab) -> None:
    sink, got = collecting()

    @stage(ack="first")
    async def first(item: Item) -> list[Item]:
        return [item, Item(n=item.n + 100)]

    summary = await lab.run(Pipeline("p", first >> sink), *items(3))

    assert sorted(got) == [0, 1, 2, 100, 101, 102]
    assert summary.stages["first"].out == 6


async def test_outputs_to_a_stage_that_deduplicates_are_deduplicated(lab: Lab) -> None:
    got: list[int] = []

    @stage(ack="first")
    async def first(item: Item) -> Item:
        return Item(n=item.n % 2)

    @stage(dedup="n")
    async def sink(item: Item) -> None:
        got.append(item.n)

    summary = await lab.run(Pipeline("p", first >> sink), *items(10))

    assert sorted(got) == [0, 1]
    assert summary.stages["sink"].duplicates == 8


async def test_what_is_emitted_with_a_delay_is_delayed(kit: Kit) -> None:
    @stage
    async def later(other: Other) -> None: ...

    @stage(ack="first")
    async def first(item: Item, ctx: Context) -> None:
        await ctx.emit(later, Other(text="at once"))
        await ctx.emit(later, Other(text="delayed"), delay="1h")

    async with kit(Pipeline("p", first, later)) as h:
        await h.feed(first, Item())
        await h.drain()

        h.expect(later).exactly([Other(text="at once"), Other(text="delayed")])
        assert [round(wait) for wait in seconds_between([*h.calls(first), *h.calls(later)])] == [0, 3600]


async def test_messages_of_two_edges_with_the_same_entry_id_are_two_messages(lab: Lab) -> None:
    sink, got = collecting()

    @stage
    async def before(item: Item) -> Item:
        return item

    both_running = asyncio.Barrier(2)

    @stage(ack="first")
    async def first(item: Item) -> Item:
        await both_running.wait()
        return item

    pipeline = Pipeline("p", before >> first >> sink)
    keys = lab.broker(pipeline).keys
    for n, edge in enumerate((">first", "before>first")):
        await lab.command(b"XADD", keys.edge(edge), b"1-1", b"b", b'{"n":%d}' % n)

    await lab.run(pipeline)

    assert sorted(got) == [0, 1]


async def test_what_was_read_together_is_settled_together_and_published_together(lab: Lab) -> None:
    """Nor is anything kept for each message: only one token for each call, for a while."""

    @stage(ack="first")
    async def first(item: Item) -> Item:
        return item

    @stage(ack="after")
    async def sink(item: Item) -> None: ...

    pipeline = Pipeline("p", first >> sink)
    await lab.push(pipeline, first, *items(500))
    await lab.command(b"DEL", lab.broker(pipeline).keys.published)
    before = await calls_of_scripts(lab)
    await lab.run(pipeline)

    assert await calls_of_scripts(lab) - before < 250
    assert await lab.command(b"ZCARD", lab.broker(pipeline).keys.published) < 250


async def test_a_publish_that_arrives_again_after_its_answer_sends_nothing_twice() -> None:
    @stage(ack="manual")
    async def acks(number: int, ctx: Context) -> int:
        await ctx.ack()
        return number

    @stage
    async def sink(number: int) -> None: ...

    faults = [Duplicate("publish", nth=nth) for nth in range(1, 6)]
    async with harness(Pipeline("p", acks >> sink), faults=faults) as h:
        for number in range(10):
            await h.feed(acks, number)
            await h.advance(seconds=1)
        await h.drain()

        assert h.unfired == ()
        h.expect(sink).any_order([*range(10)])


async def test_the_tokens_of_calls_whose_repetition_cannot_arrive_any_more_are_removed() -> None:
    @stage(ack="first")
    async def first(number: int) -> int:
        return number

    @stage
    async def sink(number: int) -> None: ...

    async with harness(Pipeline("p", first >> sink)) as h:
        for number in range(30):
            await h.feed(first, number)
            await h.advance(minutes=1)

        removed = [event for event in h.trace if event.what == "zrem"]
        assert len(removed) >= 25


async def calls_of_scripts(lab: Lab) -> int:
    """How often scripts have been called on the server."""
    told = (await lab.command(b"INFO", b"commandstats")).decode()
    return sum(int(n) for n in re.findall(r"cmdstat_evalsha:calls=(\d+)", told))


async def test_a_handler_does_not_start_whose_message_another_worker_has_been_given(lab: Lab) -> None:
    """As after the sleep of a laptop: the worker wakes up with what it had read, and its lease is over."""

    @stage(ack="first", concurrency=1)
    async def first(item: Item) -> None: ...

    pipeline = Pipeline("p", first)
    broker, other = lab.broker(pipeline), lab.broker(pipeline)
    await Edges(other).ensure_groups([">first"])
    await Workers(other).register("other", {"lease_seconds": 60}, lease_ms=60_000, heartbeat="1")
    await Workers(broker).register("asleep", {}, lease_ms=60_000, heartbeat="1")
    await lab.push(pipeline, first, *items(3))
    reader = Reader(broker, [">first"])
    asleep = await reader.read("asleep", count=3, block_ms=10)
    await reader.close()
    await Workers(broker).record_death("asleep", "stopped")
    assert await Workers(other).reclaim(">first", "asleep", "other", limit=2)

    settling = Settling(broker, {}, keeps_answers=True)
    in_flight = InFlight(Backpressure(broker, []))
    settler = Settler(pipeline.plan.stage("first"), settling, Identity("asleep"), in_flight)
    outbox = EarlyOutputs(broker, "first", settling, in_flight, Publishing(broker))
    early = EarlyAck(broker, pipeline.plan.stage("first"), settler, outbox)

    won = await early.win(asleep)
    await settler.settling.close()

    assert [row[3] for row in won] == [b'{"n":2}']


async def test_a_stop_within_its_grace_finishes_what_was_settled_and_not_started(lab: Lab) -> None:
    handled: list[int] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    @stage(ack="first", concurrency=1)
    async def first(item: Item) -> None:
        handled.append(item.n)
        begun.set()
        await go_on.wait()

    pipeline = Pipeline("p", first)
    runner = await started(lab, pipeline, grace_seconds=60)
    await lab.push(pipeline, first, *items(5))
    await begun.wait()
    stopping = asyncio.create_task(runner.stop())
    await asyncio.sleep(0)
    go_on.set()
    await stopping

    balance = (await lab.balance(pipeline))["first"]
    assert balance.adds_up
    assert (balance.ok, balance.running, balance.dead) == (len(handled), 0, 0)
    assert balance.waiting == 5 - len(handled)


async def test_what_a_hung_thread_had_settled_is_a_dead_letter(lab: Lab) -> None:
    begun, free = threading.Event(), threading.Event()

    @stage(ack="first")
    def first(item: Item) -> None:
        begun.set()
        free.wait()

    pipeline = Pipeline("p", first)
    try:
        await lab.push(pipeline, first, Item(n=5))
        async with lab.running(pipeline, grace_seconds=0):
            await asyncio.to_thread(begun.wait)
    finally:
        free.set()

    assert (await lab.letter(pipeline, first)).reason == "stopped after it was acknowledged"
