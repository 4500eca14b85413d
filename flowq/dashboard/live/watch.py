"""Looks at one pipeline once a second, for all who have it open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace

from flowq.broker.inspection.overview import Overview
from flowq.broker.redis_streams import Broker
from flowq.dashboard.live.look import Look
from flowq.errors import BrokerError, BrokerUnavailable, FlowqError
from flowq.graph.compilation.plan import Plan
from flowq.inspector import Inspector

EVERY_SECONDS = 1.0
FIRST_LOOK_SECONDS = 2.0
UNWATCHED_SECONDS = 30.0
_LONGEST_RETRY_SECONDS = 15.0


class Watch:
    """One pipeline for all viewers. Starts with the first of them, and stops half a minute after the last."""

    def __init__(self, plan: Plan, opening: Callable[[], AbstractAsyncContextManager[Broker]]) -> None:
        self.plan = plan
        self.trouble: BrokerError | None = None
        self._opening = opening
        self._broker: Broker | None = None
        self._look: Look | None = None
        self.every_seconds = EVERY_SECONDS
        self._looked_at = 0.0
        self._looked = asyncio.Event()
        self._wake = asyncio.Event()
        self._wanted_at = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def broker(self) -> Broker:
        """The connection of the watch. Raises BrokerUnavailable while there is none."""
        if self._broker is None:
            raise self.trouble or BrokerUnavailable("Redis has not answered yet")
        return self._broker

    @property
    def inspector(self) -> Inspector:
        """Reads more of the pipeline. Raises as `broker` does."""
        return Inspector(self.plan, self.broker)

    async def look(self) -> Look | None:
        """What was seen last, at most a second ago; None if Redis has not answered yet.

        Where Redis does not answer any more, `trouble` of the look says so.
        """
        self._want()
        if self._look is None or self._age() > EVERY_SECONDS:
            self._wake.set()
            self._looked.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_LOOK_SECONDS):
                    await self._looked.wait()
        return self._look and replace(self._look, trouble=self.trouble)

    async def close(self) -> None:
        """Stop looking, and close the connection."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _want(self) -> None:
        loop = asyncio.get_running_loop()
        self._wanted_at = loop.time()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run(), name=f"flowq-watch-{self.plan.name}")

    def _age(self) -> float:
        return asyncio.get_running_loop().time() - self._looked_at

    async def _run(self) -> None:
        wait_seconds = EVERY_SECONDS
        while self._is_wanted:
            try:
                async with self._opening() as broker:
                    self._broker = broker
                    while self._is_wanted:
                        await self._see(broker)
                        wait_seconds = EVERY_SECONDS
                        await self._sleep(wait_seconds)
            except FlowqError as error:
                self.trouble = error if isinstance(error, BrokerError) else BrokerUnavailable(error.message)
                self._looked.set()
                await self._sleep(wait_seconds)
                wait_seconds = min(2 * wait_seconds, _LONGEST_RETRY_SECONDS)
            finally:
                self._broker = None

    async def _see(self, broker: Broker) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        overview = await Overview.of(broker, self.plan)
        self._looked_at = loop.time()
        self._look = Look(overview=overview, look_ms=(self._looked_at - began) * 1000)
        self.trouble = None
        self._looked.set()

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    @property
    def _is_wanted(self) -> bool:
        return asyncio.get_running_loop().time() - self._wanted_at < UNWATCHED_SECONDS
