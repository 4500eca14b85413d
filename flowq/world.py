"""The clock, the chance and the background of a process: arguments, so that a simulation can replace them."""

from __future__ import annotations

import asyncio
import os
import random
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # 32 that look different from each other
_LONGEST_JOIN_SECONDS = 0.5  # it may be waiting for a server that does not reply

Work = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""Background work. It ends soon after the event has been set."""


class Background(Protocol):
    """Work that runs in the background."""

    async def stop(self) -> None:
        """Set its event, and wait for its end, though not for long."""
        ...


class World:
    """What a process takes from its surroundings: time, chance, and a background to work in.

    `REAL` is the world of production. A simulation derives its own, in which the clock is virtual, chance has a seed,
    and everything runs in one thread. The clocks are attributes, so that a hot path calls the C function itself.
    """

    is_simulated = False  # then no code may start threads or processes of its own, nor watch the real clock

    def __init__(self) -> None:
        self.monotonic: Callable[[], float] = time.monotonic  # seconds, from an arbitrary start
        self.time: Callable[[], float] = time.time  # seconds since 1970
        self.random: Callable[[], float] = random.random  # in [0, 1), for jitter

    def word(self, length: int) -> str:
        """A unique word of `length` digits and letters."""
        return "".join(secrets.choice(ALPHABET) for _ in range(length))

    def place(self) -> str:
        """The machine and the process, for names that people read."""
        host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:32] or "host"
        return f"{host}:{os.getpid()}"

    async def pause(self, seconds: float) -> None:
        """Sleep between two looks of a poll that runs for as long as the process.

        A simulation may skip such looks when they would find nothing new. All other waiting sleeps as usual.
        """
        await asyncio.sleep(seconds)

    def in_background(self, work: Work, *, name: str) -> Background:
        """Start work that a blocked event loop must not hold up: in a thread with a loop of its own."""
        return _OwnThread(work, name)


class _OwnThread:
    def __init__(self, work: Work, name: str) -> None:
        self._work = work
        self._stopped = asyncio.Event()  # of the thread's loop
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        await asyncio.to_thread(self._thread.join, _LONGEST_JOIN_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._work(self._stopped))


REAL = World()
