"""A stage with `ack="manual"`: a delivery is settled when its handler says so."""

from __future__ import annotations

import asyncio

import pytest

from flowq import Context, Pipeline, Retry, stage
from flowq.broker.edges import Edges
from flowq.broker.workers import Workers
from flowq.errors import UsageError
from flowq.runtime.stage.early_ack import DeliveryLost
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab, Other, items
from tests.runtime.record import collecting


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

    assert errors == ["FQ307"]
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
