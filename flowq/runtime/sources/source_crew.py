"""Runs the sources of one process side by side, so that the failure of one does not interrupt the others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.waves import is_any_outstanding
from flowq.errors import FlowqError, UsageError
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.runtime.housekeeping.pause_watch import PauseWatch
from flowq.runtime.run import RunOptions
from flowq.runtime.sources.source_runner import SourceFailed, SourceRunner
from flowq.runtime.stage.writing import Writing

log = logging.getLogger("flowq.runtime")

_LOOK_SECONDS = 0.1
_LONGEST_LAST_WORK_SECONDS = 60.0


class SourceCrew:
    """Runs sources. When one fails, its task raises only after everything that was sent has been handled.

    Otherwise a source that fails at every start would keep earlier messages from being handled and other sources from
    running. A run that does not drain waits at most a minute, and not for other sources: its operator must see that a
    source failed. `edges` are those that the run reads.
    """

    def __init__(
        self,
        plan: Plan,
        broker: Broker,
        options: RunOptions,
        pauses: PauseWatch,
        writing: Writing,
        edges: Sequence[str],
    ) -> None:
        self._plan = plan
        self._broker = broker
        self._options = options
        self._pauses = pauses
        self._writing = writing
        self._edges = edges
        self._tasks: list[asyncio.Task[None]] = []
        self._n_running = 0
        self._all_ended = asyncio.Event()

    def start(
        self,
        stage: StagePlan,
        arguments: Mapping[str, Any],
        resources: Mapping[str, Any],
        next_id: Callable[[], bytes],
        worker: str,
    ) -> asyncio.Task[None]:
        """Run a source in a task. The task raises SourceFailed or UsageError when the source has failed."""
        runner = SourceRunner(
            stage, self._plan, self._broker, next_id, self._writing,
            pauses=self._pauses, worker=worker, grace_seconds=self._options.grace_seconds,
        )  # fmt: skip
        task = asyncio.create_task(self._run(runner, arguments, resources), name=f"source {stage.name}")
        self._tasks.append(task)
        self._n_running += 1
        return task

    def cancel(self) -> None:
        """Stop all of them."""
        for task in self._tasks:
            task.cancel()

    async def until_all_have_ended(self) -> None:
        """Return when every task has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, runner: SourceRunner, arguments: Mapping[str, Any], resources: Mapping[str, Any]) -> None:
        failure: FlowqError | None = None
        try:
            await runner.run(arguments, resources, self._options.signature())
        except (SourceFailed, UsageError) as error:
            failure = error
        self._n_running -= 1
        if not self._n_running:
            self._all_ended.set()
        if failure is not None:
            await self._finish_before(failure)
            raise failure

    async def _finish_before(self, failure: FlowqError) -> None:
        if not self._n_running and not await self._is_outstanding():
            return
        log.error("%s; the run ends with this error once everything sent has been handled", failure.message)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if self._options.drains else _LONGEST_LAST_WORK_SECONDS):
                if self._options.drains:
                    await self._all_ended.wait()
                while await self._is_outstanding():
                    await self._broker.world.pause(_LOOK_SECONDS)

    async def _is_outstanding(self) -> bool:
        """Whether anything is waiting, running or delayed on the edges that are read."""
        return await retry_until_available(
            self._broker.world, lambda: is_any_outstanding(self._broker, self._edges), what="watching the pipeline"
        )
