"""Entries that are deleted by hand while they run: a run waits for their outputs."""

from __future__ import annotations

import asyncio

import pytest

import flowq
from flowq import Pipeline, stage
from flowq.broker.edges import Edges
from flowq.broker.workers import Workers
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab, items

N = 3


class Gated:
    """`first >> last`, where `first` waits for a gate."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.running = 0
        self.arrived: list[int] = []

        @stage(concurrency=N)
        async def first(item: Item) -> Item:
            self.running += 1
            await self.gate.wait()
            return item

        @stage
        async def last(item: Item) -> None:
            self.arrived.append(item.n)

        self.first = first
        self.pipeline = Pipeline("gated", first >> last)


async def delete_all(lab: Lab, gated: Gated, how: str) -> None:
    stream = lab.broker(gated.pipeline).keys.edge(">first")
    if how == "XTRIM":
        await lab.command(b"XTRIM", stream, b"MAXLEN", 0)
    else:
        entries = await lab.command(b"XRANGE", stream, b"-", b"+")
        await lab.command(b"XDEL", stream, *[entry_id for entry_id, _ in entries])
    assert await lab.command(b"XLEN", stream) == 0


@pytest.mark.parametrize("how", ["XDEL", "XTRIM"])
async def test_a_run_is_not_drained_while_an_entry_deleted_by_hand_still_runs(how: str, lab: Lab, url: str) -> None:
    gated = Gated()
    await lab.push(gated.pipeline, gated.first, *items(N))
    running = asyncio.create_task(flowq.run(gated.pipeline, redis=url, namespace=lab.namespace))
    await eventually(lambda: gated.running == N)

    await delete_all(lab, gated, how)
    balance = (await lab.balance(gated.pipeline))["first"]
    assert (balance.entered, balance.running, balance.waiting) == (N, N, 0)
    await asyncio.sleep(0.3)  # a few looks at whether it is drained: that it never is, is the claim
    assert not running.done()
    gated.gate.set()
    summary = await running

    assert sorted(gated.arrived) == list(range(N))
    assert (summary.drained, summary.stages["first"].ok, summary.stages["last"].ok) == (True, N, N)


async def test_what_was_deleted_by_hand_while_it_ran_does_not_begin_another_run(lab: Lab, url: str) -> None:
    gated = Gated()
    await lab.push(gated.pipeline, gated.first, *items(N))
    running = asyncio.create_task(flowq.run(gated.pipeline, redis=url, namespace=lab.namespace))
    await eventually(lambda: gated.running == N)
    await delete_all(lab, gated, "XDEL")

    second = asyncio.create_task(flowq.run(gated.pipeline, redis=url, namespace=lab.namespace))
    await eventually(lambda: has_joined(lab, gated))
    gated.gate.set()

    assert (await running).run == (await second).run
    assert all(balance.adds_up for balance in (await running).stages.values())


async def has_joined(lab: Lab, gated: Gated) -> bool:
    return len(await Workers(lab.broker(gated.pipeline)).registered()) == 2


async def test_a_dead_worker_whose_entries_were_deleted_by_hand_holds_up_no_run(lab: Lab) -> None:
    gated = Gated()
    gated.gate.set()
    broker = lab.broker(gated.pipeline)
    await lab.push(gated.pipeline, gated.first, *items(N))
    await Edges(broker).ensure_groups([">first"])
    await lab.command(b"XREADGROUP", b"GROUP", b"flowq", b"dead", b"STREAMS", broker.keys.edge(">first"), b">")
    await delete_all(lab, gated, "XDEL")

    summary = await lab.run(gated.pipeline, lease_seconds=1.0)

    assert summary.stages["first"].purged == N
