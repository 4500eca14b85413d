"""Calls the function of a source, and feeds what it yields to the publishing: in the loop, or from a thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any

from flowq.graph.compilation.plan import StagePlan
from flowq.graph.declaration.source_context import SourceContext
from flowq.runtime.source_arguments import bound
from flowq.runtime.sources.source_intake import Intake, Taken
from flowq.runtime.sources.source_publishing import SourcePublishing
from flowq.runtime.sources.source_thread import SourceThread

log = logging.getLogger("flowq.runtime")

_THREAD_CLOSING_SECONDS = 1.0  # one that blocks on input cannot be interrupted, and must not hold up the stop


class Feed(ABC):
    """Publishes the values of one source, from the first to the last."""

    def __init__(
        self,
        stage: StagePlan,
        publishing: SourcePublishing,
        intake: Intake,
        filled: Mapping[str, Any],
        cursor: Any,
    ) -> None:
        self.publishing = publishing
        self._stage = stage
        self._intake = intake
        self._filled = filled
        self._cursor = cursor
        self._is_stopping = False

    @property
    def name(self) -> str:
        return self._stage.name

    async def run(self) -> BaseException | None:
        """Feed the publishing until the source ends. Returns what the source raised, if it did.

        Raised in a task, SystemExit would end the loop, and the user's own CancelledError would look like a stop.
        """
        try:
            await self._take_all()
        except asyncio.CancelledError as error:
            if self._is_stopping:
                raise
            return error
        except BaseException as error:  # noqa: BLE001  (the user's code)
            return error
        return None

    async def stop(self, feeding: asyncio.Task[BaseException | None], seconds: float) -> None:
        """Let the source clean up; abandon it if it does not end in time."""
        self._is_stopping = True
        feeding.cancel()
        done, _ = await asyncio.wait([feeding], timeout=seconds)
        if not done:
            log.warning("source %s does not end, and is abandoned", self._stage.name)

    @abstractmethod
    async def _take_all(self) -> None:
        """Pass every value of the source to the publishing, waiting whenever it has no room."""

    def _start(self, keep: Callable[[Taken], None]) -> Any:
        """Call the user's function; `keep` receives what is recorded in its context, encoded."""
        intake, handler = self._intake, self._stage.handler
        intake.context = SourceContext(self._cursor, record=lambda item: keep(intake.record(item)))
        contexts = {handler.context_parameter: intake.context} if handler.context_parameter is not None else {}
        positional, named = bound(handler.call, {**self._filled, **contexts})
        return handler.call(*positional, **named)


class AsyncFeed(Feed):
    """Feeds from an asynchronous generator, in the loop."""

    async def _take_all(self) -> None:
        publishing, take = self.publishing, self._intake.value
        values = self._start(publishing.add)
        try:
            async for value in values:
                publishing.add(take(value, values))
                await publishing.until_there_is_room()
        finally:
            if isinstance(values, AsyncGenerator):  # stopped at a yield: closed now, not at its garbage collection
                await values.aclose()

    CALLS_USERS_CODE = _take_all.__code__  # to be recognized in a call stack


class SteppedFeed(Feed):
    """Feeds from an iterator in the loop, which it blocks: for a simulation, where nothing may run beside the loop."""

    async def _take_all(self) -> None:
        publishing, take = self.publishing, self._intake.value
        values = iter(self._start(publishing.add))
        try:
            for value in values:
                publishing.add(take(value, values))
                await publishing.until_there_is_room()
                await asyncio.sleep(0)
        finally:
            if isinstance(values, Generator):
                values.close()


class ThreadFeed(Feed):
    """Feeds from an iterator that may block, in a thread of its own."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._thread = SourceThread(self._stage.name, lambda: self._start(self._thread.keep), self._intake.value)

    async def _take_all(self) -> None:
        async with contextlib.aclosing(self._thread.batches()) as batches:
            async for batch in batches:
                for taken in batch:
                    self.publishing.add(taken)
                await self.publishing.until_there_is_room()

    async def stop(self, feeding: asyncio.Task[BaseException | None], seconds: float) -> None:
        await super().stop(feeding, seconds)
        await self._thread.stop(min(seconds, _THREAD_CLOSING_SECONDS))
