"""Runs a source from its turn to its end: lends it what it needs, takes what it gives, and says how it failed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from flowq.broker.calls import insist
from flowq.broker.redis_streams import Broker
from flowq.broker.source_turns import take_source
from flowq.delivery.codec import decoder, strict_encoder
from flowq.errors import DecodeError, FlowqError, UsageError
from flowq.graph.emission import Emission
from flowq.graph.plan import Plan, StagePlan
from flowq.graph.source_context import SourceContext
from flowq.printable import error_repr
from flowq.runtime.pauses import Pauses
from flowq.runtime.refusals import Refusals
from flowq.runtime.run import DEFAULT_GRACE_SECONDS
from flowq.runtime.source_arguments import bound, cursor_name, cursor_type
from flowq.runtime.source_intake import Intake, Taken, context_recording
from flowq.runtime.source_publishing import SourcePublishing, TakenOver
from flowq.runtime.source_thread import SourceThread

log = logging.getLogger("flowq.runtime")

_LOOK_SECONDS = 0.5
_THREAD_CLOSING_SECONDS = 1.0  # one that waits for input cannot be told, and must not hold up the stop


class SourceFailed(FlowqError):
    """A source raised an exception, which is the cause. What it had given before is kept."""

    code = "FQ302"


class SourceRunner:
    """Runs one source from beginning to end, and notes in Redis that it has finished. Waits while another worker does.

    A source with a context goes on where its cursor was stored last. One without starts from its beginning in the next
    run if it was broken off: what it gives may come twice.
    """

    def __init__(
        self,
        stage: StagePlan,
        plan: Plan,
        broker: Broker,
        next_id: Callable[[], bytes],
        *,
        pauses: Pauses | None = None,
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
        """Publish everything the source gives, unless an earlier worker of the same run already has.

        Raises SourceFailed, or the UsageError that the source raised, when what it gave before that is stored.
        """
        name = self._stage.name
        while await self._is_its_turn(signature):
            try:
                await self._give(arguments, resources, signature)
            except TakenOver:
                continue
            # For where the last messages went out before the end was known, or had to be confirmed by a replica first.
            await insist(lambda: self._broker.source_finished(name, signature), what=f"finishing {name}")

    async def _is_its_turn(self, signature: str) -> bool:
        """Wait for as long as another worker runs the source. False: it has finished."""
        name, told = self._stage.name, ""
        while not await insist(lambda: self._broker.is_source_finished(name, signature), what=f"starting {name}"):
            runner = await insist(lambda: take_source(self._broker, name, self._worker), what=f"starting {name}")
            if runner == self._worker:
                return True
            if runner != told:
                told = runner
                log.warning("source %s is being run by worker %s: this one takes over if that is gone", name, runner)
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def _give(self, arguments: Mapping[str, Any], resources: Mapping[str, Any], signature: str) -> None:
        feed = await self._feed(arguments, resources)
        publishing = asyncio.create_task(feed.publishing.run(), name=f"publishing from {self._stage.name}")
        feeding = asyncio.create_task(feed.run(), name=f"feeding from {self._stage.name}")
        try:
            await asyncio.wait([feeding, publishing], return_when=asyncio.FIRST_COMPLETED)
            if publishing.done():  # it ends by itself only when it fails
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
        refusals = Refusals(stage, emission, self._next_id, worker=self._worker, run_id=broker.run_id)
        name = cursor_name(stage, arguments) if self._has_cursor else ""
        stored = await insist(lambda: broker.cursor(name), what=f"starting {stage.name}") if name else b""
        publishing = SourcePublishing(
            stage, self._plan, broker, self._next_id,
            worker=self._worker, pauses=self._pauses, cursor_name=name, cursor=stored,
        )  # fmt: skip
        type_ = cursor_type(stage) if name else Any
        intake = Intake(stage, emission, refusals, strict_encoder(type_))
        filled = {**arguments, **resources}
        new_feed = _AsyncFeed if stage.handler.shape.is_async else _ThreadFeed
        return new_feed(stage, publishing, intake, filled, self._cursor(stored, type_))

    def _cursor(self, stored: bytes, type_: Any) -> Any:
        try:
            return decoder(type_)(stored) if stored else None
        except DecodeError as error:
            raise UsageError(
                f'source "{self._stage.name}" cannot go on where it was: its cursor is {error.message}',
                detail=error.detail,
                hint="flowq run --fresh forgets it, and begins again",
                place=self._stage.place,
            ) from None

    def _failure(self, error: BaseException) -> FlowqError:
        if isinstance(error, UsageError):
            error.place = error.place or self._stage.place
            return error
        where = "where its cursor is" if self._has_cursor else "from its beginning"
        return SourceFailed(
            f'source "{self._stage.name}" failed: {_in_words(error)}',
            place=self._stage.place,
            hint=f"run it again when that is mended: it starts {where}, and what it gave is kept",
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
        """Feed the publishing until the source ends; what it raised, if it did.

        SystemExit in a task would end the loop, and CancelledError of the user's own would look like being stopped.
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
        """Have the source clean up, and leave it behind if it does not end."""
        self._is_stopping = True
        feeding.cancel()
        done, _ = await asyncio.wait([feeding], timeout=seconds)
        if not done:
            log.warning("source %s does not end, and is left behind", self._stage.name)

    @abstractmethod
    async def _take_all(self) -> None:
        """Pass every value of the source to the publishing, waiting whenever it has no room."""

    def _start(self, keep: Callable[[Taken], None]) -> Any:
        """Call the user's function; `keep` takes what is recorded in its context."""
        contexts: dict[str, SourceContext[Any]] = {}
        if (parameter := self._stage.handler.context_parameter) is not None:
            contexts[parameter] = context_recording(self._cursor, self._intake, keep)
        call = self._stage.handler.call
        positional, named = bound(call, {**self._filled, **contexts})
        return call(*positional, **named)


class _AsyncFeed(_Feed):
    async def _take_all(self) -> None:
        publishing, take = self.publishing, self._intake.value
        given = self._start(publishing.add)
        try:
            async for value in given:
                publishing.add(take(value, given))
                await publishing.until_there_is_room()
        finally:
            if isinstance(given, AsyncGenerator):  # stopped at a yield, it would be closed when it is collected
                await given.aclose()


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


def _in_words(error: BaseException) -> str:
    if isinstance(error, FlowqError):
        return f"{error.message}: {error.detail}".rstrip(": ")
    if isinstance(error, asyncio.CancelledError):
        return "what it waited for was cancelled"
    return error_repr(error)
