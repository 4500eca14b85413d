"""However a stage is run, its number of messages in a handler is how many its handlers are running at that moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from flowq import Context, Pipeline, Rate, stage
from flowq.inspector import Inspector
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab, items

SLOTS = 3


class Gate:
    """Handlers wait here; `inside` are in them."""

    def __init__(self) -> None:
        self.inside = 0
        self.is_open = threading.Event()
        self._lock = threading.Lock()

    async def passed(self, n: int = 1) -> None:
        self.count(n)
        await eventually(self.is_open.is_set)
        self.count(-n)

    def count(self, n: int) -> None:
        with self._lock:
            self.inside += n

    def passed_in_thread(self) -> None:
        self.count(1)
        self.is_open.wait()
        self.count(-1)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.is_open.set()


async def shows(lab: Lab, pipeline: Pipeline, gate: Gate, *, inside: int, running: int) -> None:
    """Wait until the handlers have this many messages, and the overview says so."""

    async def is_so() -> bool:
        seen = (await Inspector(pipeline.plan, lab.broker(pipeline)).overview()).stages["handle"]
        figures = seen.balance.running, seen.in_handler, seen.read_ahead
        return gate.inside == inside and figures == (running, inside, max(0, running - inside))

    await eventually(is_so)


async def test_handlers_in_the_loop_are_counted(lab: Lab, gate: Gate) -> None:
    @stage(concurrency=SLOTS)
    async def handle(item: Item) -> None:
        await gate.passed()

    pipeline = Pipeline("p", handle)
    await lab.push(pipeline, handle, *items(SLOTS - 1))
    async with lab.running(pipeline):
        await shows(lab, pipeline, gate, inside=SLOTS - 1, running=SLOTS - 1)
        gate.is_open.set()
        await shows(lab, pipeline, gate, inside=0, running=0)


async def test_handlers_in_threads_are_counted(lab: Lab, gate: Gate) -> None:
    @stage(concurrency=SLOTS)
    def handle(item: Item) -> None:
        gate.passed_in_thread()

    pipeline = Pipeline("p", handle)
    await lab.push(pipeline, handle, *items(SLOTS))
    async with lab.running(pipeline):
        await shows(lab, pipeline, gate, inside=SLOTS, running=SLOTS)
        gate.is_open.set()


async def test_a_batch_counts_as_its_messages_and_one_that_is_not_full_is_in_no_handler(lab: Lab, gate: Gate) -> None:
    @stage(concurrency=2, batch=4, linger=60)
    async def handle(batch: list[Item]) -> None:
        await gate.passed(len(batch))

    pipeline = Pipeline("p", handle)
    await lab.push(pipeline, handle, *items(4 + 3))
    async with lab.running(pipeline):
        await shows(lab, pipeline, gate, inside=4, running=4 + 3)
        gate.is_open.set()
        await shows(lab, pipeline, gate, inside=0, running=3)


@pytest.mark.parametrize("ack", ["first", "manual"])
async def test_what_is_settled_before_its_handler_ends_is_in_it_all_the_same(lab: Lab, gate: Gate, ack: str) -> None:
    @stage(concurrency=SLOTS, ack="first" if ack == "first" else "manual")
    async def handle(item: Item, ctx: Context) -> None:
        if ack == "manual":
            await ctx.ack()
        await gate.passed()

    pipeline = Pipeline("p", handle)
    await lab.push(pipeline, handle, *items(SLOTS))
    async with lab.running(pipeline):
        await shows(lab, pipeline, gate, inside=SLOTS, running=0)
        gate.is_open.set()


async def test_what_waits_for_its_turn_is_in_no_handler(lab: Lab, gate: Gate) -> None:
    @stage(concurrency=SLOTS, rate=Rate(1, per=0.4))
    async def handle(item: Item) -> None:
        await gate.passed()

    pipeline = Pipeline("p", handle)
    await lab.push(pipeline, handle, *items(SLOTS))
    async with lab.running(pipeline):
        while gate.inside < SLOTS:
            seen = (await Inspector(pipeline.plan, lab.broker(pipeline)).overview()).stages["handle"]
            assert (seen.in_handler or 0) <= gate.inside
        await shows(lab, pipeline, gate, inside=SLOTS, running=SLOTS)
        gate.is_open.set()
