"""Runs stages of a pipeline in this process: starts consumers and background tasks, and stops them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

from flowq.broker.claims import ClaimCheck
from flowq.broker.client.retrying import retry_until_available
from flowq.broker.edges import Edges
from flowq.broker.message_ids import MessageIds
from flowq.broker.redis_streams import Broker
from flowq.errors import FlowqError
from flowq.graph.compilation.plan import Plan
from flowq.runtime.handlers.child_setup import ChildSetup
from flowq.runtime.handlers.observation import Observer
from flowq.runtime.housekeeping.claim_keeper import ClaimKeeper
from flowq.runtime.housekeeping.clock_watch import ClockWatch
from flowq.runtime.housekeeping.jobs import Job, run_job
from flowq.runtime.housekeeping.lease import LeaseKeeper
from flowq.runtime.housekeeping.pause_watch import PauseWatch
from flowq.runtime.housekeeping.promoter import Promoter
from flowq.runtime.housekeeping.reclaimer import Reclaimer
from flowq.runtime.housekeeping.throughput_recorder import ThroughputRecorder
from flowq.runtime.identity import Identity, process_facts
from flowq.runtime.process.block_watch import BlockWatch
from flowq.runtime.process.handler_factory import HandlerFactory
from flowq.runtime.process.quarantine import Quarantine
from flowq.runtime.process.stopping import sign_off, stop_stages
from flowq.runtime.resources import Resources
from flowq.runtime.run import RunOptions
from flowq.runtime.source_arguments import source_arguments
from flowq.runtime.sources.source_crew import SourceCrew
from flowq.runtime.stage.stage_runner import StageRunner
from flowq.version import __version__


class Runner:
    """The stages of one process.

    `ended` gets the error of anything that must keep running and has failed, or a result when a quarantine, or a worker
    with `only_sources`, has nothing left to do. A failed source ends it once everything sent has been handled.
    `supervised`: another process watches this one, and will run a quarantine if it crashes.
    `observer` sees every handler call; without one, observation costs nothing. `child_setup` is for the processes of
    `process=True` stages.
    """

    def __init__(
        self,
        plan: Plan,
        broker: Broker,
        options: RunOptions,
        *,
        sources: Sequence[str] = (),
        supervised: bool = False,
        quarantined: bool = False,
        only_sources: bool = False,
        observer: Observer | None = None,
        child_setup: ChildSetup | None = None,
    ) -> None:
        self._plan = plan
        self._broker = broker
        self._options = options
        self._supervised = supervised
        self._quarantined = quarantined
        self._only_sources = only_sources
        selected = [stage for stage in plan.consumers if options.runs(stage.name)]
        self._stages = [] if only_sources else selected
        self._sources = [stage for stage in plan.sources if stage.name in sources]
        self._edges = [edge for stage in self._stages for edge in stage.in_edges]
        self._all_edges = [edge.name for edge in plan.edges]
        self._identity = Identity(world=broker.world)
        self._ids = MessageIds(broker.world)
        self._resources = Resources()
        self._handlers = HandlerFactory(
            plan, broker, self._stages, self._resources, self._ids.next, observer, child_setup
        )
        self._promoter = Promoter(broker, self._edges)
        self._stage_runners = [
            StageRunner(stage, plan, broker, self._identity, delayed=self._promoter.delayed) for stage in self._stages
        ]
        self._pauses = PauseWatch(broker, self._stage_runners)
        selected_edges = [edge for stage in selected for edge in stage.in_edges]
        self._crew = SourceCrew(plan, broker, options, self._pauses, selected_edges)
        self._lease = LeaseKeeper(
            broker, self._identity, self._facts(), options.lease_seconds, silent_seconds=self._silent_seconds
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopping = False
        self._block_watch: BlockWatch | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def worker(self) -> str:
        return self._identity.worker

    @property
    def is_idle(self) -> bool:
        """Whether no handler of this process is running."""
        return not any(runner.consumer.running for runner in self._stage_runners)

    def _silent_seconds(self) -> float:
        return max((runner.consumer.reader.silent_seconds for runner in self._stage_runners), default=0.0)

    def _facts(self) -> dict[str, Any]:
        names = [stage.name for stage in (*self._stages, *self._sources)]
        return {
            **process_facts(),
            "stages": [stage.name for stage in self._stages],
            "edges": [edge.name for edge in self._plan.edges if edge.target in names or edge.origin in names],
            "lease_seconds": self._options.lease_seconds,
            "version": __version__,
            "slots": {stage.name: stage.slots for stage in self._stages},
        }

    # Start

    async def start(self) -> None:
        """Open the resources, register, and start reading. Raises ResourceFailed, UsageError, BrokerRefused."""
        self._block_watch = None if self._broker.world.is_simulated else BlockWatch.start()
        arguments = {stage.name: source_arguments(stage, self._options.arguments) for stage in self._sources}
        handlers = [stage.handler for stage in (*self._stages, *self._sources)]
        await self._resources.open_all(resource for handler in handlers for resource in handler.resources.values())
        self._resources.broken.add_done_callback(self._on_end)
        await retry_until_available(
            self._broker.world,
            lambda: ClaimCheck.check_store(self._broker, self._plan),
            what="looking for the claim store",
        )
        if self._edges:
            await retry_until_available(
                self._broker.world,
                lambda: Edges(self._broker).ensure_groups(self._edges),
                what="creating consumer groups",
            )
        await self._lease.start()
        await self._pauses.step()
        if self._quarantined:
            self._start_quarantine()
            return
        await self._start_stages()
        for job in self._jobs():
            self._spawn(run_job(self._broker.world, job), job.name)
        for stage in self._sources:
            resources = self._resources.values(stage.handler.resources)
            start = partial(self._crew.start, stage, arguments[stage.name], resources, self._ids.next, self.worker)
            self._watch(self._resources.context.run(start))
        if self._only_sources:
            self._spawn(self._crew.until_all_have_ended(), "end").add_done_callback(self._has_nothing_left)

    async def _start_stages(self) -> None:
        await asyncio.gather(*(runner.connect() for runner in self._stage_runners))
        handlings = [self._handlers.make(runner.stage, runner.consumer.early.commit) for runner in self._stage_runners]
        await self._handlers.start_pools()
        for runner, handling in zip(self._stage_runners, handlings, strict=True):
            self._resources.context.run(runner.start, handling)
            for task in runner.tasks:
                self._watch(task)

    def _start_quarantine(self) -> None:
        quarantine = Quarantine(self._broker, self._identity, self._plan, self._pauses)
        for stage in self._stages:
            quarantine.add(stage, partial(self._handlers.make, stage))
        for job in (self._lease, self._pauses):
            self._spawn(run_job(self._broker.world, job), job.name)
        self._spawn(quarantine.run(), "quarantine").add_done_callback(self._has_nothing_left)

    def _jobs(self) -> list[Job]:
        consumers = [runner.consumer for runner in self._stage_runners]
        jobs: list[Job] = [self._pauses]
        if consumers:
            jobs += [ThroughputRecorder(self._broker, consumers, self._identity, edges=self._all_edges), self._promoter]
        if ClaimCheck.of(self._broker, self._plan) is not None:
            jobs.append(ClaimKeeper(self._broker))
        if not self._broker.dialer.is_private:
            reclaimer = Reclaimer(
                self._broker,
                consumers,
                self._identity,
                all_edges=self._all_edges,
                lease_seconds=self._options.lease_seconds,
                supervised=self._supervised,
            )
            jobs += [self._lease, ClockWatch(self._broker, self._plan), reclaimer]
        return jobs

    # Stop

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """Stop reading, finish running messages within the grace period, hand back the rest, and sign off.

        Setting `hurry` ends the grace period at once.
        """
        hurry = hurry or asyncio.Event()
        self._is_stopping = True
        self._crew.cancel()
        failed: list[BaseException] = []
        for step in (
            partial(self._stop_stages_and_sign_off, hurry),
            partial(self._resources.close, self._options.grace_seconds, hurry),
            self._handlers.close,
        ):
            try:
                await step()
            except BaseException as error:  # noqa: BLE001  (the other steps must still be taken)
                failed.append(error)
        if self._block_watch is not None:
            self._block_watch.stop()
        if failed:
            raise failed[0]

    async def release(self) -> None:
        """Close the resources and end the threads, and no more: for a simulated worker that has died."""
        try:
            await self._resources.close(self._options.grace_seconds)
        finally:
            await self._handlers.close()

    async def _stop_stages_and_sign_off(self, hurry: asyncio.Event) -> None:
        has_stopped_in_order = False
        try:
            has_stopped_in_order = await stop_stages(self._stage_runners, self._options.grace_seconds, hurry)
        finally:
            await self._crew.until_all_have_ended()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._lease.stop()
            if has_stopped_in_order:
                await sign_off(self._broker, sorted(self._identity.names), self._all_edges)

    # Tasks

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        self._watch(task)
        return task

    def _watch(self, task: asyncio.Task[None]) -> None:
        task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Future[None]) -> None:
        if isinstance(task, asyncio.Task) and task.cancelled():
            error: BaseException | None = None if self._is_stopping else TaskCancelled(task.get_name())
        else:
            error = task.exception()
        if error is not None and not self.ended.done():
            self.ended.set_exception(error)
            self.ended.exception()  # retrieved: asyncio need not warn if nothing awaits it

    def _has_nothing_left(self, _: asyncio.Task[None]) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class TaskCancelled(FlowqError):
    """The user's code has cancelled a task of flowq, so that the run cannot continue."""

    code = "FQ306"

    def __init__(self, task: str) -> None:
        super().__init__(
            f'the task "{task}" of flowq was cancelled by code in this process',
            hint="cancel only tasks that you have started; asyncio.all_tasks() returns others as well",
        )
