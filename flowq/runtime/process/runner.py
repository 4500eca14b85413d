"""Runs stages of a pipeline in this process: starts consumers and background tasks, and stops them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence, Set
from functools import partial
from typing import Any

from flowq.broker.claims import ClaimCheck
from flowq.broker.client.retrying import retry_until_available
from flowq.broker.message_ids import MessageIds
from flowq.broker.redis_streams import Broker
from flowq.graph.compilation.plan import Plan
from flowq.runtime.handlers.child_setup import ChildSetup
from flowq.runtime.handlers.observation import Observer
from flowq.runtime.housekeeping.jobs import Job, run_job
from flowq.runtime.housekeeping.lease import LeaseKeeper
from flowq.runtime.housekeeping.pause_watch import PauseWatch
from flowq.runtime.identity import Identity, process_facts
from flowq.runtime.lanes.assigned_lanes import AssignedLanes
from flowq.runtime.lanes.handler_factory import HandlerFactory
from flowq.runtime.lanes.lane import Workplace
from flowq.runtime.lanes.lanes import Lanes, OneLane
from flowq.runtime.lanes.tasks import LastingTasks
from flowq.runtime.process.block_watch import BlockWatch
from flowq.runtime.resources import Resources
from flowq.runtime.run import RunOptions
from flowq.runtime.source_arguments import source_arguments
from flowq.runtime.sources.source_crew import SourceCrew
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
        for each in broker.shards:
            each.run_id = broker.run_id
        self._options = options
        self._quarantined = quarantined
        self._only_sources = only_sources
        selected = [stage for stage in plan.consumers if options.runs(stage.name)]
        self._stages = [] if only_sources else selected
        self._sources = [stage for stage in plan.sources if stage.name in sources]
        self._identity = Identity(world=broker.world)
        self._ids = MessageIds(broker.world)
        self._resources = Resources()
        self._handlers = HandlerFactory(
            plan, broker, self._stages, self._resources, self._ids.next, observer, child_setup
        )
        self._pauses = PauseWatch(broker, [])
        self._leases = LeaseKeeper(broker.world, options.lease_seconds)
        self._tasks = LastingTasks(self._fail)
        place = Workplace(
            plan=plan, options=options, stages=self._stages, facts=self._facts(), resources=self._resources,
            handlers=self._handlers, leases=self._leases, pauses=self._pauses, on_failure=self._fail,
            supervised=supervised,
        )  # fmt: skip
        self._lanes = self._new_lanes(place)
        selected_edges = [edge for stage in selected for edge in stage.in_edges]
        self._crew = SourceCrew(plan, broker, options, self._pauses, self._lanes.for_sources, selected_edges)
        self._block_watch: BlockWatch | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _new_lanes(self, place: Workplace) -> Lanes:
        if self._plan.shards == 1:
            return OneLane(place, self._broker, self._identity)
        fixed: Collection[int] | None = self._options.shards or None
        if self._quarantined or self._only_sources:
            fixed = ()
        # A process with sources serves their shard: it hears how full the shards are to which they send.
        always = (0,) if self._sources else ()
        return AssignedLanes(place, self._broker, self._identity, fixed=fixed, always=always)

    @property
    def worker(self) -> str:
        return self._identity.worker

    @property
    def names(self) -> Set[str]:
        """Every name that this process has, or had, in any shard."""
        return self._identity.names.union(*(lane.identity.names for lane in self._lanes.all))

    @property
    def is_idle(self) -> bool:
        """Whether no handler of this process is running."""
        return self._lanes.is_idle

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
        self._tasks.watch(self._resources.broken)
        await retry_until_available(
            self._broker.world,
            lambda: ClaimCheck.check_store(self._broker, self._plan),
            what="looking for the claim store",
        )
        await self._lanes.register()
        await self._pauses.step()
        if self._quarantined:
            self._run_jobs([self._leases, self._pauses])
            self._tasks.spawn(self._lanes.quarantine(), "quarantine").add_done_callback(self._has_nothing_left)
            return
        await self._lanes.start()
        is_alone = self._broker.dialer.is_private
        self._run_jobs([self._pauses, *self._lanes.jobs(), *(() if is_alone else (self._leases,))])
        for stage in self._sources:
            resources = self._resources.values(stage.handler.resources)
            start = partial(self._crew.start, stage, arguments[stage.name], resources, self._ids.next, self.worker)
            self._tasks.watch(self._resources.context.run(start))
        if self._only_sources:
            ending = self._tasks.spawn(self._crew.until_all_have_ended(), "end")
            ending.add_done_callback(self._has_nothing_left)

    def _run_jobs(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._tasks.spawn(run_job(self._broker.world, job), job.name)

    # Stop

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """Stop reading, finish running messages within the grace period, hand back the rest, and sign off.

        Setting `hurry` ends the grace period at once.
        """
        hurry = hurry or asyncio.Event()
        self._tasks.is_stopping = True
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
        try:
            await self._lanes.stop_stages(hurry)
        finally:
            await self._crew.until_all_have_ended()
            await self._tasks.cancel()
            await self._lanes.end_jobs()
            await self._leases.stop()
            await self._lanes.sign_off()

    # The end

    def _fail(self, error: BaseException) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)
            self.ended.exception()  # retrieved: asyncio need not warn if nothing awaits it

    def _has_nothing_left(self, _: asyncio.Task[None]) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
