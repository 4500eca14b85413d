"""Reads the dead letters of one pipeline in addition to the looks, for the pages that list them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from flowq.broker.redis_streams import Broker
from flowq.dashboard.access.shown_fields import masked_text
from flowq.dead_letters.letter_index import DeadLetterIndex
from flowq.errors import BrokerUnavailable, FlowqError
from flowq.graph.compilation.plan import Plan

log = logging.getLogger("flowq.dashboard")

_SHARE = 0.05  # of the time of this process, at most
_EVERY_SECONDS = 1.0
_WANTED_SECONDS = 60.0
_FIRST_SECONDS = 2.0


class LetterReading:
    """Reads letters while a page shows them, and for a minute afterwards."""

    def __init__(self, plan: Plan) -> None:
        self._name = plan.name
        # One for all connections: after a lost one, nothing is read again.
        self._index = DeadLetterIndex(plan, shown_as=masked_text)
        self._is_connected = False
        self._has_read, self._wanted = asyncio.Event(), asyncio.Event()
        self._wanted_at = 0.0

    async def index(self) -> DeadLetterIndex:
        """The kinds of the dead letters read so far. Raises BrokerUnavailable without a connection."""
        self._wanted_at = asyncio.get_running_loop().time()
        self._wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_SECONDS):
                await self._has_read.wait()
        if not (self._is_connected and self._index.as_of_ms):
            raise BrokerUnavailable("Redis has not answered yet")
        return self._index

    def expect_changes(self) -> None:
        """Call it after letters were put back or removed: the next page waits until they have been read again."""
        self._has_read.clear()

    @asynccontextmanager
    async def over(self, broker: Broker) -> AsyncGenerator[None]:
        """Read over this connection while it is open."""
        self._is_connected = True
        task = asyncio.create_task(self._run(broker), name=f"flowq-letters-{self._name}")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self._is_connected = False
            self._has_read.clear()

    async def _run(self, broker: Broker) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() - self._wanted_at > _WANTED_SECONDS:
                self._wanted.clear()
                self._has_read.clear()  # what was read goes out of date
                await self._wanted.wait()
            began, work_began, has_more = loop.time(), time.thread_time(), False
            try:
                has_more = await self._index.step(broker)
                self._has_read.set()
            except FlowqError:  # the next look says why, or Redis answers again
                pass
            except Exception:  # a mistake of ours: pages keep what was read, and the log says why it grows old
                log.exception("reading the dead letters of %s failed", self._name)
            worked, took = time.thread_time() - work_began, loop.time() - began
            # Waiting for Redis costs this process nothing, but a slow Redis gets a pause of the same length.
            await asyncio.sleep(max(worked * (1 / _SHARE - 1), took, 0 if has_more else _EVERY_SECONDS))
