"""The world of simulated workers: the clock of the virtual loop, chance from a seed, background work as tasks."""

from __future__ import annotations

import asyncio
from random import Random

from flowq.testing.simulation.real_timers import Timers
from flowq.world import ALPHABET, Background, Work, World


class SimulatedWorld(World):
    """What a simulated worker takes from its surroundings.

    `start`: seconds since 1970 when the loop was made. Equal seeds give the same words and numbers, in the same order.
    """

    is_simulated = True

    def __init__(self, loop: Timers, *, seed: int | str = 0, start: float = 0.0) -> None:
        super().__init__()
        self._loop = loop
        self._random = Random(f"world {seed}")
        self.monotonic = loop.time
        self.time = lambda: start + loop.time()
        self.random = self._random.random

    def word(self, length: int) -> str:
        """A word that no other call gets."""
        return "".join(self._random.choice(ALPHABET) for _ in range(length))

    def place(self) -> str:
        """The same on every machine."""
        return "simulation:1"

    async def pause(self, seconds: float) -> None:
        """Sleep in virtual time; a leap of the clock may end it early."""
        await self._loop.background_sleep(seconds)

    def in_background(self, work: Work, *, name: str) -> Background:
        """Start work as a task of the same loop."""
        return _Task(self._loop, work, name)


class _Task:
    def __init__(self, loop: Timers, work: Work, name: str) -> None:
        self._stopped = asyncio.Event()
        self._task = loop.create_task(work(self._stopped), name=name)

    async def stop(self) -> None:
        self._stopped.set()
        await asyncio.wait([self._task])
