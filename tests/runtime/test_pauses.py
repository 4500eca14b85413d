"""Pauses: a paused stage starts nothing new, loses nothing, and resumes on request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis
from pydantic import BaseModel

import flowq
from flowq.inspector import Inspector
from flowq.runtime.housekeeping.pause_watch import PauseWatch
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import Run, RunOptions
from tests.eventually import eventually
from tests.runtime.kit import Kit
from tests.runtime.lab import Item, Lab

started: list[int] = []
stored: list[int] = []
go_on = asyncio.Event()


@pytest.fixture(autouse=True)
def _nothing_yet() -> None:
    global go_on
    started.clear()
    stored.clear()
    go_on = asyncio.Event()  # one belongs to the loop that first waits for it


@flowq.source
def items() -> Iterator[Item]:
    yield from (Item(n=n) for n in range(10))


@flowq.stage(concurrency=2)
async def fetch(item: Item) -> Item:
    started.append(item.n)
    await go_on.wait()
    return item


@flowq.stage(batch=5, linger=0.01)
async def store(items: list[Item]) -> None:
    stored.extend(item.n for item in items)


LAB = flowq.Pipeline("lab", items >> fetch >> store)


async def is_noticed(url: str, lab: Lab) -> None:
    """Wait until the pauses have been read twice: before the second time, what the first said has been applied."""
    key = lab.broker(LAB).keys.paused

    def read_twice() -> None:
        with redis.Redis.from_url(url) as client, client.monitor() as monitor:
            reads = (seen for seen in monitor.listen() if seen["command"].split() == ["HGETALL", key])
            next(reads), next(reads)

    await asyncio.to_thread(read_twice)


async def test_pauses_are_read_at_least_twice_a_second(any_lab: Lab) -> None:
    assert await PauseWatch(any_lab.broker(LAB), []).step() <= 0.5


async def test_a_worker_that_starts_while_its_stage_is_paused_reads_nothing(any_lab: Lab) -> None:
    inspector = Inspector(LAB.plan, any_lab.broker(LAB))
    assert await inspector.pause("fetch")
    await any_lab.push(LAB, fetch, Item(n=1))
    async with any_lab.running(LAB):
        await any_lab.push(LAB, store, Item(n=7))
        await eventually(lambda: stored == [7])

        balance = (await inspector.balance())["fetch"]
        assert (started, balance.waiting, balance.running) == ([], 1, 0)

        go_on.set()
        assert await inspector.resume("fetch")
        await eventually(lambda: stored == [7, 1])


async def test_what_runs_at_a_pause_finishes_and_the_rest_waits_until_it_is_resumed(kit: Kit) -> None:
    async with kit(LAB) as h:
        await h.feed(fetch, *(Item(n=n) for n in range(20)))
        await h.advance(seconds=1)
        await h.pause(fetch)
        await h.advance(seconds=1)
        go_on.set()
        await h.feed(store, Item(n=77))
        await h.advance(hours=1)

        assert len(started) == 2
        assert sorted(stored) == sorted([*started, 77])
        balance = h.balance()["fetch"]
        assert (balance.ok, balance.waiting, balance.running) == (2, 18, 0)

        await h.resume()
        await h.drain()
        h.expect(fetch).any_order([Item(n=n) for n in range(20)])


async def test_an_idle_worker_notices_although_it_is_waiting_for_messages(lab: Lab, url: str) -> None:
    inspector = Inspector(LAB.plan, lab.broker(LAB))
    go_on.set()
    async with lab.running(LAB):
        await lab.push(LAB, fetch, Item(n=0))
        await eventually(lambda: stored == [0])
        await inspector.pause()
        await is_noticed(url, lab)
        await lab.push(LAB, fetch, Item(n=1))

        await eventually(lambda: _waits(inspector))
        assert started == [0]

        await inspector.resume()
        await eventually(lambda: stored == [0, 1])


async def _waits(inspector: Inspector) -> bool:
    balance = (await inspector.balance())["fetch"]
    return (balance.waiting, balance.running) == (1, 0)


async def test_a_paused_source_gives_nothing_and_a_run_that_drains_waits_for_it(lab: Lab) -> None:
    broker = lab.broker(LAB)
    inspector = Inspector(LAB.plan, broker)
    await inspector.pause("items")
    go_on.set()
    run, options = Run(LAB.plan, broker), RunOptions()
    runner = Runner(LAB.plan, broker, options, sources=await run.begin(options))
    await runner.start()
    try:
        await lab.push(LAB, store, Item(n=77))
        await eventually(lambda: stored == [77])
        snapshot = await run.snapshot()
        assert (snapshot.counters.get("out:items", 0), snapshot.is_drained) == (0, False)

        await inspector.resume("items")
        await eventually(lambda: len(stored) == 11)
    finally:
        await runner.stop()
    assert sorted(stored) == [*range(10), 77]


async def test_a_stage_does_not_resume_while_the_whole_pipeline_is_paused(lab: Lab) -> None:
    inspector = Inspector(LAB.plan, lab.broker(LAB))
    assert await inspector.pause()
    assert await inspector.pause("fetch")
    assert not await inspector.pause("fetch")

    assert await inspector.resume("fetch")
    assert list(await inspector.paused()) == ["*"]
    assert (await inspector.snapshot()).is_paused("fetch")

    assert await inspector.resume()
    assert not await inspector.resume()
    assert await inspector.paused() == {}


class Link(BaseModel):
    """A message with a pacing key."""

    host: str
    n: int


async def test_a_paused_key_waits_without_a_slot_and_takes_its_turns_when_it_is_resumed(lab: Lab, url: str) -> None:
    got: list[str] = []

    @flowq.stage(concurrency=1, rate=flowq.Rate(1000, by="host"))
    async def visit(link: Link) -> None:
        got.append(f"{link.host}{link.n}")

    pipeline = flowq.Pipeline("lab", visit)
    inspector = Inspector(pipeline.plan, lab.broker(pipeline))
    await inspector.pause_key("visit", "a")
    async with lab.running(pipeline):
        await lab.push(pipeline, visit, *(Link(host=host, n=n) for n in range(20) for host in "ab"))

        async def half_is_done() -> bool:
            balance = (await inspector.balance())["visit"]
            return (balance.ok, balance.outstanding) == (20, 20)

        await eventually(half_is_done)
        assert {name[0] for name in got} == {"b"}

        assert await inspector.resume_key("visit", "a")
        assert not await inspector.resume_key("visit", "a")
        await eventually(lambda: len(got) == 40)
    assert sorted(got) == sorted(f"{host}{n}" for n in range(20) for host in "ab")
