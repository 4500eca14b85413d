"""Every way to write a handler: its outputs are passed on, and it runs where and as often as declared."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from flowq import Pipeline, stage
from tests.runtime.lab import Item, Lab, items
from tests.runtime.record import collecting


@stage
async def coroutine_one(item: Item) -> Item:
    return Item(n=item.n + 100)


@stage
async def coroutine_optional(item: Item) -> Item | None:
    return Item(n=item.n + 100) if item.n % 2 else None


@stage
async def coroutine_list(item: Item) -> list[Item]:
    return [Item(n=item.n)] * item.n


@stage
async def async_generator(item: Item) -> AsyncIterator[Item]:
    for _ in range(item.n):
        yield item


@stage
def thread_one(item: Item) -> Item:
    return Item(n=item.n + 100)


@stage
def thread_optional(item: Item) -> Item | None:
    return Item(n=item.n + 100) if item.n % 2 else None


@stage
def thread_list(item: Item) -> list[Item]:
    return [item] * item.n


@stage
def thread_generator(item: Item) -> Iterator[Item]:
    for _ in range(item.n):
        yield item


@stage(inline=True)
def inline_one(item: Item) -> Item:
    return Item(n=item.n + 100)


@stage(inline=True)
def inline_generator(item: Item) -> Iterator[Item]:
    yield from [item] * item.n


ONE = [100, 101, 102, 103]
ODD = [101, 103]
MANY = [1, 2, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("handler", "expected", "filtered"),
    [
        (coroutine_one, ONE, 0),
        (coroutine_optional, ODD, 2),
        (coroutine_list, MANY, 1),
        (async_generator, MANY, 1),
        (thread_one, ONE, 0),
        (thread_optional, ODD, 2),
        (thread_list, MANY, 1),
        (thread_generator, MANY, 1),
        (inline_one, ONE, 0),
        (inline_generator, MANY, 1),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_every_shape_of_handler_hands_on_what_it_gives(
    handler: Any, expected: list[int], filtered: int, any_lab: Lab
) -> None:
    sink, got = collecting()

    summary = await any_lab.run(Pipeline("p", handler >> sink), *items(4))

    assert sorted(got) == expected
    balance = summary.stages[handler.name]
    assert (balance.entered, balance.ok, balance.filtered, balance.out) == (4, 4 - filtered, filtered, len(expected))


async def test_a_function_runs_on_a_thread_and_does_not_block_its_neighbours(lab: Lab) -> None:
    loop_thread, threads = threading.get_ident(), set[int]()
    blocked, free = threading.Event(), threading.Event()

    @stage
    def blocking(item: Item) -> Item:
        threads.add(threading.get_ident())
        blocked.set()
        assert free.wait(60)
        return item

    @stage
    async def quick(item: Item) -> None:
        if item.n == 7:
            assert await asyncio.to_thread(blocked.wait, 5)
            free.set()

    pipeline = Pipeline("p", blocking >> quick)
    await lab.push(pipeline, quick, Item(n=7))
    await lab.run(pipeline, Item(n=1))

    assert loop_thread not in threads


async def test_an_inline_function_runs_on_the_loop(lab: Lab) -> None:
    threads: set[int] = set()

    @stage(inline=True)
    def inline(item: Item) -> None:
        threads.add(threading.get_ident())

    await lab.run(Pipeline("p", inline), *items(5))

    assert threads == {threading.get_ident()}


async def test_concurrency_is_reached_and_never_exceeded(lab: Lab) -> None:
    running, most = 0, 0
    three_together = asyncio.Barrier(3)

    @stage(concurrency=3)
    async def together(item: Item) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await three_together.wait()
        running -= 1

    await lab.run(Pipeline("p", together), *items(12))

    assert most == 3


async def test_a_thread_stage_has_as_many_threads_as_slots(lab: Lab) -> None:
    together = threading.Barrier(3, timeout=60)

    @stage(concurrency=3)
    def three(item: Item) -> None:
        together.wait()

    await lab.run(Pipeline("p", three), *items(9))
