"""When a delivery is settled: after the handler, before it, or when the handler says so."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter

import pytest

import flowq
from flowq import Context, Pipeline, Retry, stage
from flowq.broker.edges import Edges
from flowq.broker.flow_control.backpressure import Backpressure
from flowq.broker.reader import Reader
from flowq.broker.settling import Settling
from flowq.broker.workers import Workers
from flowq.errors import UsageError
from flowq.inspector import Inspector
from flowq.runtime.death_records import CRASH
from flowq.runtime.identity import Identity
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import RunOptions
from flowq.runtime.stage.early_ack import DeliveryLost, EarlyAck
from flowq.runtime.stage.in_flight import InFlight
from flowq.runtime.stage.outbox import Outbox
from flowq.runtime.stage.settler import Settler
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab, Other, items
from tests.runtime.record import collecting
from tests.runtime.stopping import started

# First


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
        assert await Inspector(pipeline.plan, lab.broker(pipeline)).replay() == {"first": 1}
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


async def test_what_is_emitted_with_a_delay_is_delayed(lab: Lab) -> None:
    at: dict[str, float] = {}
    now = asyncio.get_running_loop().time

    @stage
    async def later(other: Other) -> None:
        at[other.text] = now()

    @stage(ack="first")
    async def first(item: Item, ctx: Context) -> None:
        at["handled"] = now()
        await ctx.emit(later, Other(text="at once"))
        await ctx.emit(later, Other(text="delayed"), delay=0.15)

    await lab.run(Pipeline("p", first, later), Item())

    assert at["delayed"] - at["handled"] >= 0.15
    assert at["at once"] < at["delayed"]


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
    """Nor is anything kept for each message: not even for an hour."""

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
    assert await lab.command(b"ZCARD", lab.broker(pipeline).keys.published) == 0


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
    early = EarlyAck(broker, pipeline.plan.stage("first"), settler, Outbox(broker, "first", settling, in_flight))

    won = await early.win(asleep)
    await settler.settling.close()

    assert [delivery.body for delivery in won] == [b'{"n":2}']


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


# By hand


async def test_the_handler_settles_when_it_says_so_with_what_it_emitted_so_far(lab: Lab) -> None:
    got: list[str] = []
    seen: list[tuple[int, int]] = []

    @stage
    async def sink(other: Other) -> None:
        got.append(other.text)

    @stage(ack="manual")
    async def manual(item: Item, ctx: Context) -> None:
        await ctx.emit(sink, Other(text="before"))
        seen.append(tuple((await Edges(broker).outstanding([">manual", ">sink"])).values()))  # type: ignore[arg-type]
        await ctx.ack()
        await eventually(lambda: got == ["before"])
        await ctx.emit(sink, Other(text="after"))

    pipeline = Pipeline("p", manual, sink)
    broker = lab.broker(pipeline)
    await lab.run(pipeline, Item())

    assert seen == [(1, 0)]
    assert got == ["before", "after"]


async def test_a_failure_before_the_ack_is_a_retry(lab: Lab) -> None:
    attempts: list[int] = []

    @stage(ack="manual", retry=Retry(attempts=3, base=0, max=0))
    async def manual(item: Item, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ConnectionError
        await ctx.ack()

    summary = await lab.run(Pipeline("p", manual), Item())

    assert attempts == [1, 2, 3]
    assert summary.stages["manual"].ok == 1


async def test_a_failure_after_the_ack_is_a_dead_letter(lab: Lab) -> None:
    attempts: list[int] = []

    @stage(ack="manual", retry=Retry(attempts=3, base=0, max=0))
    async def manual(item: Item, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        await ctx.ack()
        raise ConnectionError("too late")

    pipeline = Pipeline("p", manual)
    summary = await lab.run(pipeline, Item())

    assert attempts == [1]
    assert (summary.stages["manual"].ok, summary.dead) == (0, 1)
    assert (await lab.letter(pipeline, manual)).reason == "failed after it was acknowledged"


async def test_a_handler_that_forgets_to_settle_fails(lab: Lab) -> None:
    @stage(ack="manual", retry=Retry(attempts=1))
    async def manual(item: Item, ctx: Context) -> None: ...

    pipeline = Pipeline("p", manual)
    await lab.run(pipeline, Item())

    assert "ctx.ack()" in (await lab.letter(pipeline, manual)).error


async def test_settling_twice_is_settling_once(lab: Lab) -> None:
    sink, got = collecting()

    @stage(ack="manual")
    async def manual(item: Item, ctx: Context) -> None:
        await ctx.emit(sink, item)
        await ctx.ack()
        await ctx.ack()

    summary = await lab.run(Pipeline("p", manual, sink), *items(3))

    assert sorted(got) == [0, 1, 2]
    assert summary.stages["manual"].ok == 3


async def test_a_second_settling_sends_what_was_emitted_since_the_first(any_lab: Lab) -> None:
    sink, got = collecting()
    stored: list[int] = []

    @stage(ack="manual")
    async def manual(item: Item, ctx: Context) -> None:
        for n in range(4):
            await ctx.emit(sink, Item(n=n))
            await ctx.ack()
            stored.append(n)
            await eventually(lambda: got == stored)
        await ctx.emit(sink, Item(n=4))

    summary = await any_lab.run(Pipeline("p", manual, sink), Item())

    assert got == [0, 1, 2, 3, 4]
    assert (summary.stages["manual"].ok, summary.stages["manual"].out) == (1, 5)


async def test_settling_from_two_tasks_at_once_loses_and_doubles_nothing(lab: Lab) -> None:
    sink, got = collecting()

    @stage(ack="manual")
    async def manual(item: Item, ctx: Context) -> None:
        async def send(n: int) -> None:
            await ctx.emit(sink, Item(n=n))
            await ctx.ack()

        await asyncio.gather(*(send(n) for n in range(10)))

    summary = await lab.run(Pipeline("p", manual, sink), Item())

    assert sorted(got) == list(range(10))
    assert summary.stages["manual"].ok == 1


async def test_settling_what_another_worker_has_been_given_fails_and_sends_nothing(lab: Lab) -> None:
    sink, _ = collecting()
    errors: list[str] = []
    begun, taken = asyncio.Event(), asyncio.Event()

    @stage(ack="manual")
    async def manual(item: Item, ctx: Context) -> None:
        begun.set()
        await taken.wait()
        await ctx.emit(sink, item)
        try:
            await ctx.ack()
        except DeliveryLost as error:
            errors.append(error.code)
            raise

    pipeline = Pipeline("p", manual, sink)
    other = lab.broker(pipeline)
    await lab.push(pipeline, manual, Item())
    async with lab.running(pipeline, stages=["manual"], lease_seconds=60) as runner:
        await begun.wait()
        victim = runner.worker

        async def is_taken() -> bool:
            await lab.command(b"DEL", other.keys.lease(victim))  # it may have been renewed since
            await Workers(other).register("other", {"lease_seconds": 60}, lease_ms=60_000, heartbeat="1")
            return await Workers(other).reclaim(">manual", victim, "other", limit=10) is not None

        await eventually(is_taken)
        taken.set()
        await eventually(lambda: errors)

    assert errors == ["FQ304"]
    assert (await Edges(other).outstanding([">sink", "manual>sink"])) == {">sink": 0, "manual>sink": 0}
    assert await lab.letters(pipeline, manual) == []


async def test_a_stage_whose_handlers_do_not_wait_for_their_ack_goes_on_reading(lab: Lab) -> None:
    seen: set[int] = set()
    acks: list[asyncio.Task[None]] = []

    @stage(ack="manual", concurrency=1)
    async def hasty(item: Item, ctx: Context) -> None:
        seen.add(item.n)
        acks.append(asyncio.create_task(ctx.ack()))
        for _ in range(3):  # the settlement is under way when the handler ends
            await asyncio.sleep(0)

    pipeline = Pipeline("p", hasty)
    await lab.run(pipeline, *items(50))

    assert seen == set(range(50))
    await asyncio.gather(*acks, return_exceptions=True)


async def test_settling_after_the_handler_has_ended_says_so(lab: Lab) -> None:
    ended, tasks = asyncio.Event(), list[asyncio.Task[None]]()

    @stage(ack="manual", retry=Retry(attempts=1))
    async def leaving(item: Item, ctx: Context) -> None:
        async def ack_late() -> None:
            await ended.wait()
            await ctx.ack()

        tasks.append(asyncio.create_task(ack_late()))

    pipeline = Pipeline("p", leaving)
    await lab.run(pipeline, Item())
    ended.set()

    with pytest.raises(UsageError, match=r"ctx\.ack\(\) after the handler of leaving has ended"):
        await tasks[0]
    assert "ManualAckMissing" in (await lab.letter(pipeline, leaving)).error


async def test_settling_by_hand_elsewhere_is_a_mistake_of_the_handler(lab: Lab) -> None:
    @stage(retry=Retry(attempts=1))
    async def after(item: Item, ctx: Context) -> None:
        await ctx.ack()

    pipeline = Pipeline("p", after)
    await lab.run(pipeline, Item())

    assert "UsageError" in (await lab.letter(pipeline, after)).error


# Both


async def test_what_is_stopped_after_it_was_acknowledged_is_a_dead_letter_and_not_forgotten(lab: Lab) -> None:
    started = asyncio.Event()

    @stage(ack="first")
    async def first(item: Item) -> None:
        started.set()
        await asyncio.sleep(60)

    pipeline = Pipeline("p", first)
    await lab.push(pipeline, first, Item(n=5))
    async with lab.running(pipeline, grace_seconds=0.05):
        await started.wait()

    assert (await lab.letter(pipeline, first)).reason == "stopped after it was acknowledged"
    assert (await lab.balance(pipeline))["first"].adds_up


async def test_what_is_stopped_before_it_was_acknowledged_is_handed_back(lab: Lab) -> None:
    started = asyncio.Event()

    @stage(ack="manual")
    async def manual(item: Item, ctx: Context) -> None:
        started.set()
        await asyncio.sleep(60)

    pipeline = Pipeline("p", manual)
    await lab.push(pipeline, manual, Item(n=5))
    async with lab.running(pipeline, grace_seconds=0.05):
        await started.wait()

    balance = (await lab.balance(pipeline))["manual"]
    assert (balance.waiting, balance.running) == (1, 0)


@pytest.mark.parametrize("ack", ["first", "manual"])
async def test_what_a_crash_left_is_acknowledged_in_quarantine_as_elsewhere(ack: str, lab: Lab) -> None:
    got: list[str] = []

    @stage
    async def sink(other: Other) -> None:
        got.append(other.text)

    @stage(name="early", ack=ack)  # type: ignore[call-overload]
    async def early(item: Item, ctx: Context) -> None:
        if ack == "manual":
            await ctx.emit(sink, Other(text="before"))
            await ctx.ack()
        await ctx.emit(sink, Other(text="after"))
        if item.n:
            raise ConnectionError("too late")

    pipeline = Pipeline("p", early, sink)
    broker = lab.broker(pipeline)
    await lab.push(pipeline, early, Item(n=0), Item(n=1))
    await Edges(broker).ensure_groups([">early"])
    await Workers(broker).register("dead", {}, lease_ms=60_000, heartbeat="1")
    reader = Reader(broker, [">early"])
    assert len(await reader.read("dead", count=2, block_ms=10)) == 2
    await reader.close()
    await Workers(broker).record_death("dead", f"{CRASH}died of SIGKILL")

    quarantine = Runner(pipeline.plan, broker, RunOptions(), supervised=True, quarantined=True)
    await quarantine.start()
    await quarantine.ended
    await quarantine.stop()
    summary = await lab.run(pipeline)

    assert sorted(got) == (["after", "before", "before"] if ack == "manual" else ["after"])
    assert (summary.stages["early"].ok, summary.stages["early"].dead, summary.stages["early"].retries) == (1, 1, 0)


async def test_every_mode_keeps_the_balance_under_mixed_fates(lab: Lab) -> None:
    fates: Counter[str] = Counter()

    def handler(name: str, ack: str) -> flowq.Stage[Item, Item]:
        @stage(name=name, ack=ack, **({} if ack == "first" else {"retry": Retry(attempts=2, base=0, max=0)}))  # type: ignore[arg-type]
        async def handle(item: Item, ctx: Context) -> Item | None:
            if ack == "manual":
                await ctx.ack()
            fates[name] += 1
            match item.n % 3:
                case 0:
                    return Item(n=item.n)
                case 1:
                    return None
                case _:
                    raise ConnectionError
            return None

        return handle

    first, manual, after = (handler(name, name) for name in ("first", "manual", "after"))

    @stage
    async def sink(item: Item) -> None: ...

    pipeline = Pipeline("p", (first, manual, after) >> sink)
    for target in (first, manual, after):
        await lab.push(pipeline, target, *items(30))
    summary = await lab.run(pipeline)

    assert [summary.stages[name].dead for name in ("first", "manual", "after")] == [10, 10, 10]
    assert summary.stages["sink"].ok == 30
    assert fates == {"first": 30, "manual": 30, "after": 40}
