"""Runs a source: waits for its turn, calls it, publishes what it yields, and reports how it failed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs
from flowq.broker.workers import Workers
from flowq.delivery.encoding.codec import decoder, strict_encoder
from flowq.errors import DecodeError, FlowqError, UsageError
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.routing import Emission
from flowq.graph.declaration.source_context import SourceContext
from flowq.printable import error_repr
from flowq.runtime.housekeeping.pause_watch import PauseWatch
from flowq.runtime.run import DEFAULT_GRACE_SECONDS
from flowq.runtime.source_arguments import bound, cursor_name, cursor_type
from flowq.runtime.sources.rejects import Rejects
from flowq.runtime.sources.source_intake import Intake, Taken, context_recording
from flowq.runtime.sources.source_publishing import SourcePublishing, TakenOver
from flowq.runtime.sources.source_thread import SourceThread

log = logging.getLogger("flowq.runtime")

_LOOK_SECONDS = 0.5
_THREAD_CLOSING_SECONDS = 1.0  # one that blocks on input cannot be interrupted, and must not hold up the stop


class SourceFailed(FlowqError):
    """A source raised an exception, which is the cause. What it had yielded before is kept."""

    code = "FQ302"


class SourceRunner:
    """Runs one source to its end and records in Redis that it has finished. Waits while another worker runs it.

    A source with a context resumes at its last stored cursor. One without a context starts over if it was interrupted,
    so that its messages may come twice.
    """

    def __init__(
        self,
        stage: StagePlan,
        plan: Plan,
        broker: Broker,
        next_id: Callable[[], bytes],
        *,
        pauses: PauseWatch | None = None,
        worker: str,
        grace_seconds: float = DEFAULT_GRACE_SECONDS,
    ) -> None:
        self._stage = stage
        self._plan = plan
        self._broker = broker
        self._next_id = next_id
        self._pauses = pauses
        self._worker = worker
        self._grace_seconds = grace_seconds
        self._has_cursor = stage.handler.context_parameter is not None

    async def run(self, arguments: Mapping[str, Any], resources: Mapping[str, Any], signature: str) -> None:
        """Publish everything the source yields, unless an earlier worker of the same run already has.

        Raises SourceFailed, or the UsageError that the source raised, once everything yielded before that is stored.
        """
        name = self._stage.name
        while await self._is_its_turn(signature):
            try:
                await self._publish_all(arguments, resources, signature)
            except TakenOver:
                continue
            # The last publication does not record it if the end was not known yet, or a replica had to confirm first.
            await retry_until_available(
                lambda: Runs(self._broker).finish_source(name, signature), what=f"finishing {name}"
            )

    async def _is_its_turn(self, signature: str) -> bool:
        """Wait while another worker runs the source. Returns False if the source has finished."""
        name, reported = self._stage.name, ""
        while not await retry_until_available(
            lambda: Runs(self._broker).is_source_finished(name, signature), what=f"starting {name}"
        ):
            runner = await retry_until_available(
                lambda: Workers(self._broker).take_source(name, self._worker), what=f"starting {name}"
            )
            if runner == self._worker:
                return True
            if runner != reported:
                reported = runner
                log.warning("source %s is being run by worker %s: this one takes over if that one dies", name, runner)
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def _publish_all(self, arguments: Mapping[str, Any], resources: Mapping[str, Any], signature: str) -> None:
        feed = await self._feed(arguments, resources)
        publishing = asyncio.create_task(feed.publishing.run(), name=f"publishing from {self._stage.name}")
        feeding = asyncio.create_task(feed.run(), name=f"feeding from {self._stage.name}")
        try:
            await asyncio.wait([feeding, publishing], return_when=asyncio.FIRST_COMPLETED)
            if publishing.done():  # only a failure ends it early
                publishing.result()
            error = feeding.result()
            feed.publishing.end(finished="" if error else signature)
            await publishing
            if error is not None:
                raise self._failure(error) from error
        finally:
            publishing.cancel()
            await feed.stop(feeding, self._grace_seconds)
            await asyncio.wait([publishing])

    async def _feed(self, arguments: Mapping[str, Any], resources: Mapping[str, Any]) -> _Feed:
        stage, broker = self._stage, self._broker
        emission = Emission(stage, self._plan, self._next_id)
        rejects = Rejects(stage, emission, self._next_id, worker=self._worker, run_id=broker.run_id)
        name = cursor_name(stage, arguments) if self._has_cursor else ""
        stored = (
            await retry_until_available(lambda: Runs(broker).cursor(name), what=f"starting {stage.name}")
            if name
            else b""
        )
        publishing = SourcePublishing(
            stage, self._plan, broker, self._next_id,
            worker=self._worker, pauses=self._pauses, cursor_name=name, cursor=stored,
        )  # fmt: skip
        type_ = cursor_type(stage) if name else Any
        intake = Intake(stage, emission, rejects, strict_encoder(type_))
        filled = {**arguments, **resources}
        new_feed = _AsyncFeed if stage.handler.shape.is_async else _ThreadFeed
        return new_feed(stage, publishing, intake, filled, self._cursor(stored, type_))

    def _cursor(self, stored: bytes, type_: Any) -> Any:
        try:
            return decoder(type_)(stored) if stored else None
        except DecodeError as error:
            raise UsageError(
                f'source "{self._stage.name}" cannot resume: its cursor is {error.message}',
                detail=error.detail,
                hint="flowq run --fresh forgets the cursor and starts over",
                place=self._stage.place,
            ) from None

    def _failure(self, error: BaseException) -> FlowqError:
        if isinstance(error, UsageError):
            error.place = error.place or self._stage.place
            return error
        where = "resumes at its cursor" if self._has_cursor else "starts from its beginning"
        return SourceFailed(
            f'source "{self._stage.name}" failed: {_described(error)}',
            place=self._stage.place,
            hint=f"run it again once that is fixed: it {where}, and what it has sent is kept",
        )


class _Feed(ABC):
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
        """Call the user's function; `keep` receives what is recorded in its context."""
        contexts: dict[str, SourceContext[Any]] = {}
        if (parameter := self._stage.handler.context_parameter) is not None:
            contexts[parameter] = context_recording(self._cursor, self._intake, keep)
        call = self._stage.handler.call
        positional, named = bound(call, {**self._filled, **contexts})
        return call(*positional, **named)


class _AsyncFeed(_Feed):
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


class _ThreadFeed(_Feed):
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


def _described(error: BaseException) -> str:
    if isinstance(error, FlowqError):
        return f"{error.message}: {error.detail}".rstrip(": ")
    if isinstance(error, asyncio.CancelledError):
        return "something it awaited was cancelled"
    return error_repr(error)
