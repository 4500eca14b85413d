"""Runs a source: waits for its turn, publishes what it yields, and reports how it failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs
from flowq.broker.workers import Workers
from flowq.delivery.encoding.codec import decoder, encoder
from flowq.errors import DecodeError, FlowqError, UsageError
from flowq.graph.compilation.placing import router_of
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.printable import error_repr
from flowq.runtime.housekeeping.pause_watch import PauseWatch
from flowq.runtime.source_arguments import cursor_name, cursor_type
from flowq.runtime.sources.rejects import Rejects
from flowq.runtime.sources.source_feed import AsyncFeed, Feed, SteppedFeed, ThreadFeed
from flowq.runtime.sources.source_intake import Intake
from flowq.runtime.sources.source_publishing import SourcePublishing, TakenOver
from flowq.runtime.stage.writing import Writing

log = logging.getLogger("flowq.runtime")

_LOOK_SECONDS = 0.5

T = TypeVar("T")


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
        writing: Writing,
        *,
        pauses: PauseWatch,
        worker: str,
        grace_seconds: float,
    ) -> None:
        self._stage = stage
        self._plan = plan
        self._broker = broker
        self._runs = Runs(broker)
        self._next_id = next_id
        self._writing = writing
        self._pauses = pauses
        self._worker = worker
        self._grace_seconds = grace_seconds

    async def run(self, arguments: Mapping[str, Any], resources: Mapping[str, Any], signature: str) -> None:
        """Publish everything the source yields, unless an earlier worker of the same run already has.

        Raises SourceFailed, or the UsageError that the source raised, once everything yielded before that is stored.
        """
        name = self._stage.name
        cursor = cursor_name(self._stage, arguments) if _has_cursor(self._stage) else ""
        while await self._is_its_turn(signature):
            stored = await self._ask("starting", partial(self._runs.cursor, cursor)) if cursor else b""
            feed = self._feed({**arguments, **resources}, cursor, stored)
            try:
                await self._publish_all(feed, signature)
            except TakenOver:
                continue
            # The last publication does not record it if the end was not known yet, or a replica had to confirm first.
            await self._ask("finishing", partial(self._runs.finish_source, name, signature))

    async def _ask(self, doing: str, work: Callable[[], Awaitable[T]]) -> T:
        return await retry_until_available(self._broker.world, work, what=f"{doing} {self._stage.name}")

    async def _is_its_turn(self, signature: str) -> bool:
        """Wait while another worker runs the source. Returns False if the source has finished."""
        name, reported = self._stage.name, ""
        while not await self._ask("starting", partial(self._runs.is_source_finished, name, signature)):
            runner = await self._ask("starting", partial(Workers(self._broker).take_source, name, self._worker))
            if runner == self._worker:
                return True
            if runner != reported:
                reported = runner
                log.warning("source %s is being run by worker %s: this one takes over if that one dies", name, runner)
            await self._broker.world.pause(_LOOK_SECONDS)
        return False

    def _feed(self, filled: Mapping[str, Any], cursor_name: str, stored: bytes) -> Feed:
        stage, broker = self._stage, self._broker
        type_ = cursor_type(stage) if cursor_name else Any
        cursor = _decoded_cursor(stage, stored, type_)
        publishing = SourcePublishing(
            stage, self._plan, broker, self._next_id, self._writing,
            worker=self._worker, pauses=self._pauses, cursor_name=cursor_name, cursor=stored,
        )  # fmt: skip
        router = router_of(stage, self._plan, self._next_id, here=broker.shard)
        rejects = Rejects(stage, router, self._next_id, worker=self._worker, run_id=broker.run_id, world=broker.world)
        intake = Intake(stage, router, rejects, encoder(type_, strict=True))
        new_feed: type[Feed] = SteppedFeed if broker.world.is_simulated else ThreadFeed
        new_feed = AsyncFeed if stage.handler.shape.is_async else new_feed
        return new_feed(stage, publishing, intake, filled, cursor)

    async def _publish_all(self, feed: Feed, signature: str) -> None:
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
                raise _failure(self._stage, error) from error
        finally:
            publishing.cancel()
            await feed.stop(feeding, self._grace_seconds)
            await asyncio.wait([publishing])


def _has_cursor(stage: StagePlan) -> bool:
    return stage.handler.context_parameter is not None


def _decoded_cursor(stage: StagePlan, stored: bytes, type_: Any) -> Any:
    try:
        return decoder(type_)(stored) if stored else None
    except DecodeError as error:
        raise UsageError(
            f'source "{stage.name}" cannot resume: its cursor is {error.message}',
            detail=error.detail,
            hint="flowq run --fresh forgets the cursor and starts over",
            place=stage.place,
        ) from None


def _failure(stage: StagePlan, error: BaseException) -> FlowqError:
    if isinstance(error, UsageError):
        error.place = error.place or stage.place
        return error
    if isinstance(error, FlowqError):
        described = f"{error.message}: {error.detail}".rstrip(": ")
    elif isinstance(error, asyncio.CancelledError):
        described = "something it awaited was cancelled"
    else:
        described = error_repr(error)
    where = "resumes at its cursor" if _has_cursor(stage) else "starts from its beginning"
    return SourceFailed(
        f'source "{stage.name}" failed: {described}',
        place=stage.place,
        hint=f"run it again once that is fixed: it {where}; what it has sent is not lost",
    )
