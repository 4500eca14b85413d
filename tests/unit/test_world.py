"""The real world: the clocks of Python, unique words, and a background that goes on while a loop is blocked."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from itertools import cycle

from flowq.broker.message_ids import MessageIds, new_run_id, new_worker_name
from flowq.runtime.identity import Identity
from flowq.world import ALPHABET, REAL, World

SAFETY_SECONDS = 60.0


class Repeating(World):
    """A world without chance."""

    def __init__(self, letters: str) -> None:
        super().__init__()
        self.time = lambda: 1_000_000_000.0
        self._letters = cycle(letters)

    def word(self, length: int) -> str:
        return "".join(next(self._letters) for _ in range(length))


def test_production_calls_the_clocks_of_python_and_nothing_in_between() -> None:
    assert (REAL.monotonic, REAL.time, REAL.random) == (time.monotonic, time.time, random.random)


def test_words_are_unique() -> None:
    words = {REAL.word(12) for _ in range(10_000)}

    assert len(words) == 10_000
    assert set("".join(words)) == set(ALPHABET)


def test_all_names_come_from_the_world() -> None:
    def names() -> list[object]:
        world = Repeating("abc")
        identity = Identity(world=world)
        return [MessageIds(world).next(), new_worker_name(world), new_run_id(world), identity.worker, identity.renew()]

    assert names() == names()


def test_run_ids_sort_by_the_time_of_the_world() -> None:
    world = Repeating("z")
    earlier = new_run_id(world)
    world.time = lambda: 1_000_000_000.001

    assert earlier < new_run_id(world)


async def test_background_work_goes_on_while_the_loop_is_blocked() -> None:
    n_steps, has_moved = 0, threading.Event()

    async def work(stopped: asyncio.Event) -> None:
        nonlocal n_steps
        while not stopped.is_set():
            n_steps += 1
            if n_steps > 3:
                has_moved.set()
            await asyncio.sleep(0.001)

    background = REAL.in_background(work, name="test")
    assert has_moved.wait(SAFETY_SECONDS)  # it blocks this loop
    await background.stop()
    found = n_steps

    assert all(thread.name != "test" for thread in threading.enumerate())
    assert n_steps == found


async def test_background_work_that_does_not_end_is_not_waited_for_for_long() -> None:
    may_end = threading.Event()

    async def work(stopped: asyncio.Event) -> None:
        may_end.wait(SAFETY_SECONDS)

    background = REAL.in_background(work, name="stuck")
    async with asyncio.timeout(SAFETY_SECONDS / 2):
        await background.stop()
    may_end.set()
