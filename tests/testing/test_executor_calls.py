"""Calls in executors under a virtual clock: one at a time, in one order, while the loop stands still."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import count

import pytest

from flowq.testing.simulation.virtual_loop import VirtualLoop

SAFETY_SECONDS = 10.0


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


def test_calls_run_one_at_a_time_in_the_order_in_which_they_were_made(loop: VirtualLoop) -> None:
    numbers, n_running, most = list[int](), 0, 0

    def call(number: int) -> None:
        nonlocal n_running, most
        n_running += 1
        most = max(most, n_running)
        threading.Event().wait(0.001 * (5 - number))  # later calls are faster
        numbers.append(number)
        n_running -= 1

    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(call, number) for number in range(5)))

    loop.run(main())

    assert numbers == [0, 1, 2, 3, 4]
    assert most == 1


def test_a_call_and_the_loop_never_draw_from_one_counter_at_the_same_time(loop: VirtualLoop) -> None:
    counter = count()

    async def draw(n: int) -> list[int]:
        drawn: list[int] = []
        for _ in range(n):
            drawn.append(next(counter))
            await asyncio.sleep(0)
        return drawn

    async def main() -> tuple[int, list[int]]:
        return await asyncio.gather(asyncio.to_thread(next, counter), draw(50))

    assert loop.run(main()) == [50, list(range(50))]


def test_a_call_may_wait_for_the_loop(loop: VirtualLoop) -> None:
    async def answer() -> str:
        await asyncio.sleep(0)
        return "done"

    async def main() -> str:
        return await asyncio.to_thread(
            lambda: asyncio.run_coroutine_threadsafe(answer(), loop).result(timeout=SAFETY_SECONDS)
        )

    assert loop.run(main()) == "done"


def test_what_a_call_raises_is_raised_where_it_is_awaited(loop: VirtualLoop) -> None:
    def fail() -> None:
        raise ValueError("in a thread")

    with pytest.raises(ValueError, match="in a thread"):
        loop.run(asyncio.to_thread(fail))


def test_a_call_that_is_cancelled_before_its_turn_is_not_made(loop: VirtualLoop) -> None:
    made: list[str] = []

    async def main() -> None:
        first = asyncio.create_task(asyncio.to_thread(made.append, "first"))
        second = asyncio.create_task(asyncio.to_thread(made.append, "second"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([first, second])

    loop.run(main())

    assert made == ["first"]


def test_a_call_that_never_ends_does_not_hold_up_the_end_of_the_loop(loop: VirtualLoop) -> None:
    may_end = threading.Event()

    async def main() -> None:
        given_up = asyncio.Event()

        def give_up() -> None:
            loop.executor_calls.give_up_first()
            given_up.set()

        def call() -> None:
            loop.call_soon_threadsafe(give_up)
            may_end.wait()

        calling = asyncio.create_task(asyncio.to_thread(call))
        await given_up.wait()
        calling.cancel()

    try:
        loop.run(main())
        loop.close()
    finally:
        may_end.set()
