"""However a stage is run, its number of messages in a handler is how many its handlers are running at that moment."""

from __future__ import annotations

import asyncio
import threading

import pytest

from flowq import Context, Pipeline, Rate, stage
from flowq.inspector import Inspector
from flowq.testing import Harness
from tests.eventually import eventually
from tests.runtime.kit import Kit
from tests.runtime.lab import Item, Lab, items

SLOTS = 3


class Gate:
    """Handlers wait here; `inside` are in them."""

    def __init__(self) -> None:
        self.inside = 0
        self.is_open = asyncio.Event()

    async def passed(self, n: int = 1) -> None:
        self.inside += n
        await self.is_open.wait()
        self.inside -= n


async def shows(h: Harness, pipeline: Pipeline, gate: Gate, *, inside: int, running: int) -> None:
    """The handlers have this many messages, and soon the overview says so."""
    await h.advance(seconds=2)
    seen = h.inspect(lambda inspector: inspector.overview()).stages["handle"]
    figures = seen.balance.running, seen.in_handler, seen.read_ahead
    assert (gate.inside, figures) == (inside, (running, inside, max(0, running - inside)))


async def test_handlers_in_the_loop_are_counted(kit: Kit) -> None:
    gate = Gate()

    @stage(concurrency=SLOTS)
    async def handle(item: Item) -> None:
        await gate.passed()

    pipeline = Pipeline("p", handle)
    async with kit(pipeline) as h:
        await h.feed(handle, *items(SLOTS - 1))
        await shows(h, pipeline, gate, inside=SLOTS - 1, running=SLOTS - 1)
        gate.is_open.set()
        await shows(h, pipeline, gate, inside=0, running=0)


async def test_handlers_in_threads_are_counted(lab: Lab) -> None:
    is_open = threading.Event()

    @stage(concurrency=SLOTS)
    def handle(item: Item) -> None:
        is_open.wait()

    pipeline = Pipeline("p", handle)
    inspector = Inspector(pipeline.plan, lab.broker(pipeline))

    async def all_are_shown() -> bool:
        seen = (await inspector.overview()).stages["handle"]
        return (seen.balance.running, seen.in_handler, seen.read_ahead) == (SLOTS, SLOTS, 0)

    await lab.push(pipeline, handle, *items(SLOTS))
    try:
        async with lab.running(pipeline):
            await eventually(all_are_shown)
            is_open.set()
    finally:
        is_open.set()


async def test_a_batch_counts_as_its_messages_and_one_that_is_not_full_is_in_no_handler(kit: Kit) -> None:
    gate = Gate()

    @stage(concurrency=2, batch=4, linger="1h")
    async def handle(batch: list[Item]) -> None:
        await gate.passed(len(batch))

    pipeline = Pipeline("p", handle)
    async with kit(pipeline) as h:
        await h.feed(handle, *items(4 + 3))
        await shows(h, pipeline, gate, inside=4, running=4 + 3)
        gate.is_open.set()
        await shows(h, pipeline, gate, inside=0, running=3)


@pytest.mark.parametrize("ack", ["first", "manual"])
async def test_what_is_settled_before_its_handler_ends_is_in_it_all_the_same(kit: Kit, ack: str) -> None:
    gate = Gate()

    @stage(concurrency=SLOTS, ack="first" if ack == "first" else "manual")
    async def handle(item: Item, ctx: Context) -> None:
        if ack == "manual":
            await ctx.ack()
        await gate.passed()

    pipeline = Pipeline("p", handle)
    async with kit(pipeline) as h:
        await h.feed(handle, *items(SLOTS))
        await shows(h, pipeline, gate, inside=SLOTS, running=0)
        gate.is_open.set()


async def test_what_waits_for_its_turn_is_in_no_handler(kit: Kit) -> None:
    gate = Gate()

    @stage(concurrency=SLOTS, rate=Rate(1, per="10s"))
    async def handle(item: Item) -> None:
        await gate.passed()

    pipeline = Pipeline("p", handle)
    async with kit(pipeline) as h:
        await h.feed(handle, *items(SLOTS))
        for n in range(1, SLOTS + 1):
            await h.advance(seconds=3)
            seen = h.inspect(lambda inspector: inspector.overview()).stages["handle"]
            assert (gate.inside, seen.in_handler) == (n, n)
            await h.advance(seconds=7)
        gate.is_open.set()
