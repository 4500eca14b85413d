"""A value is sent as it was when it was passed on, and a message runs again as it was delivered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pydantic import model_serializer

from flowq import BatchFailed, Context, Pipeline, Reject, Retry, stage
from flowq.runtime.handlers.calling import bind
from flowq.runtime.handlers.threads import HandlerThreads
from tests.runtime.lab import Item, Lab, items


def generator(item: Item) -> Iterator[Item]:
    for n in range(3):
        item.n = n
        yield item
    item.n = 99


async def async_generator(item: Item) -> AsyncIterator[Item]:
    for n in range(3):
        item.n = n
        yield item
        await asyncio.sleep(0)
    item.n = 99


async def emitting(item: Item, ctx: Context) -> None:
    for n in range(3):
        item.n = n
        await ctx.emit(SINK, item)
    item.n = 99


def emitting_on_a_thread(item: Item, ctx: Context) -> None:
    for n in range(3):
        item.n = n
        ctx.emit(SINK, item)
    item.n = 99


async def acknowledging(item: Item, ctx: Context) -> None:
    for n in range(3):
        item.n = n
        await ctx.emit(SINK, item)
    item.n = 99
    await ctx.ack()


async def sink(item: Item) -> None:
    GOT.append(item.n)


GOT: list[int] = []
ENCODED_ON: list[int] = []


class Telling(Item):
    """Tells on which thread it was encoded."""

    @model_serializer(mode="plain")
    def _tell(self) -> dict[str, int]:
        ENCODED_ON.append(threading.get_ident())
        return {"n": self.n}


SINK = stage(sink)


@pytest.mark.parametrize(
    ("handler", "options"),
    [
        (generator, {}),
        (generator, {"inline": True}),
        (generator, {"ack": "first"}),
        (generator, {"timeout": 60}),
        (async_generator, {}),
        (emitting, {}),
        (emitting, {"ack": "first"}),
        (emitting_on_a_thread, {}),
        (acknowledging, {"ack": "manual"}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
async def test_a_value_is_sent_as_it_was_when_it_was_given(
    handler: Callable[..., Any], options: dict[str, Any], lab: Lab
) -> None:
    GOT.clear()
    giving: Any = stage(name="giving", **options)(handler)

    emits = "emit" in handler.__name__ or options.get("ack") == "manual"
    await lab.run(Pipeline("p", giving, SINK) if emits else Pipeline("p", giving >> SINK), Item())

    assert sorted(GOT) == [0, 1, 2]


async def test_what_a_thread_returns_is_encoded_before_its_handler_counts_as_returned(lab: Lab) -> None:
    """Else the loop would encode it some time later, and other threads may have it in their hands meanwhile."""
    ENCODED_ON.clear()

    @stage
    def give(item: Item) -> list[Telling]:
        return [Telling(n=item.n)]

    @stage
    async def sink(item: Telling) -> None: ...

    await lab.run(Pipeline("p", give >> sink), Item(n=5))

    assert ENCODED_ON
    assert threading.get_ident() not in ENCODED_ON


# Batches


async def test_rows_that_a_failing_batch_takes_off_its_list_are_not_lost(any_lab: Lab) -> None:
    stored: list[int] = []

    @stage(batch=8, linger=0.2, concurrency=1, retry=Retry(attempts=1))
    async def store(batch: list[Item]) -> None:
        rows: list[int] = []
        while batch:
            row = batch.pop(0)
            if row.n == 5:
                raise ValueError("row 5")
            rows.append(row.n)
        stored.extend(rows)

    pipeline = Pipeline("p", store)
    summary = await any_lab.run(pipeline, *items(8))

    assert sorted(stored) == [0, 1, 2, 3, 4, 6, 7]
    assert (summary.stages["store"].ok, summary.dead) == (7, 1)
    assert (await any_lab.letter(pipeline, store)).message == {"n": 5}


async def test_the_halves_of_a_batch_see_their_messages_as_they_were_delivered(lab: Lab) -> None:
    stored: list[int] = []

    @stage(batch=4, linger=0.2, concurrency=1, retry=Retry(attempts=1))
    async def store(batch: list[Item]) -> None:
        is_bad = any(item.n == 2 for item in batch)
        for item in batch:
            item.n += 100
        if is_bad:
            raise ValueError
        stored.extend(item.n for item in batch)

    await lab.run(Pipeline("p", store), *items(4))

    assert sorted(stored) == [100, 101, 103]


async def test_a_batch_that_tells_its_failures_may_have_emptied_its_list(lab: Lab) -> None:
    @stage(batch=4, linger=0.2, concurrency=1)
    async def store(batch: list[Item]) -> None:
        batch.clear()
        raise BatchFailed({3: Reject("the last")})

    pipeline = Pipeline("p", store)
    summary = await lab.run(pipeline, *items(4))

    assert (summary.stages["store"].ok, summary.dead) == (3, 1)


async def test_what_a_batch_on_a_thread_gave_beside_its_failures_is_as_it_was_when_it_raised() -> None:
    given = Item(n=1)

    @stage(batch=2)
    def store(batch: list[Item]) -> list[Item]:
        raise BatchFailed({1: Reject("bad")}, outputs=[given])

    plan = Pipeline("p", store >> SINK).plan
    threads = HandlerThreads(1)
    call, _ = bind(plan.stage("store"), {}, threads, lambda *_: [])
    with pytest.raises(BatchFailed) as failed:
        await call(None, items(2))
    given.n = 99
    threads.shutdown()

    assert failed.value.outputs == (Item(n=1),)


@pytest.mark.parametrize("inline", [True, False])
async def test_a_retry_sees_what_was_delivered(inline: bool, lab: Lab) -> None:
    seen: list[int] = []

    @stage(inline=inline, retry=Retry(attempts=3, base=0, max=0))
    def handler(item: Item) -> None:
        seen.append(item.n)
        item.n = 99
        raise ConnectionError

    pipeline = Pipeline("p", handler)
    await lab.run(pipeline, Item(n=5))

    assert seen == [5, 5, 5]
    assert (await lab.letter(pipeline, handler)).message == {"n": 5}
