"""Messages that a handler emits to a stage leave with its outputs, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import flowq
from flowq import Context, Pipeline, Retry, stage
from flowq.errors import UsageError
from tests.runtime.kit import Kit, seconds_between
from tests.runtime.lab import Item, Lab, Other, items
from tests.runtime.record import collecting

ONCE = Retry(attempts=1)


async def test_what_is_emitted_leaves_with_the_outputs_and_after_its_delay(kit: Kit) -> None:
    @stage
    async def later(other: Other) -> None: ...

    @stage
    async def emitting(item: Item, ctx: Context) -> None:
        await ctx.emit(later, Other(text="at once"))
        await ctx.emit(later, Other(text="delayed"), delay="1h")

    async with kit(Pipeline("p", emitting, later)) as h:
        await h.feed(emitting, Item())
        await h.drain()

        h.expect(later).exactly([Other(text="at once"), Other(text="delayed")])
        assert [round(wait) for wait in seconds_between([*h.calls(emitting), *h.calls(later)])] == [0, 3600]


async def test_a_handler_that_fails_emits_nothing(lab: Lab) -> None:
    sink, got = collecting()

    @stage(retry=ONCE)
    async def emitting(item: Item, ctx: Context) -> None:
        await ctx.emit(sink, item)
        raise ConnectionError

    await lab.run(Pipeline("p", emitting, sink), Item())

    assert got == []


@pytest.mark.parametrize("fails", [False, True])
async def test_what_is_emitted_after_the_handler_has_ended_is_refused(fails: bool, lab: Lab) -> None:
    """By a task that it left behind: nothing would take it along."""
    ended, tasks = asyncio.Event(), list[asyncio.Task[None]]()

    @stage
    async def sink(item: Item) -> None: ...

    @stage(retry=ONCE)
    async def leaving(item: Item, ctx: Context) -> None:
        async def emit_late() -> None:
            await ended.wait()
            await ctx.emit(sink, item)

        tasks.append(asyncio.create_task(emit_late()))
        if fails:
            raise ConnectionError

    await lab.run(Pipeline("p", leaving, sink), Item())
    ended.set()

    with pytest.raises(UsageError, match=r"ctx\.emit\(\) after the handler of leaving has ended"):
        await tasks[0]


@stage
async def stranger(item: Item) -> None: ...


@flowq.source
def some_source() -> Iterator[Item]:
    yield Item()


@pytest.mark.parametrize("target", [stranger, some_source], ids=["another pipeline's", "a source"])
async def test_emitting_where_nothing_can_go_costs_only_its_own_message(target: Any, lab: Lab) -> None:
    @stage(retry=ONCE)
    async def emitting(item: Item, ctx: Context) -> None:
        if item.n == 0:
            await ctx.emit(target, item)

    @stage
    async def sink(item: Item) -> None: ...

    flows = (emitting, some_source >> sink) if target is some_source else (emitting,)
    pipeline = Pipeline("p", *flows)
    await lab.push(pipeline, emitting, *items(3))
    summary = await lab.run(pipeline)

    assert (summary.stages["emitting"].ok, summary.stages["emitting"].dead) == (2, 1)
