"""What holds for both modes in which a delivery is settled before its handler has ended."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

import flowq
from flowq import Context, Pipeline, Retry, stage
from flowq.broker.edges import Edges
from flowq.broker.reader import Reader
from flowq.broker.workers import Workers
from flowq.runtime.death_records import CRASH
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import RunOptions
from tests.runtime.lab import Item, Lab, Other, items


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
