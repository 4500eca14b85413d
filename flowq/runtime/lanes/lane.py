"""What one process runs for one shard of a pipeline: its stages, and the housekeeping of their messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flowq.broker.claims import ClaimCheck
from flowq.broker.client.retrying import retry_until_available
from flowq.broker.edges import Edges
from flowq.broker.redis_streams import Broker
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.runtime.housekeeping.claim_keeper import ClaimKeeper
from flowq.runtime.housekeeping.clock_watch import ClockWatch
from flowq.runtime.housekeeping.jobs import Job, run_job
from flowq.runtime.housekeeping.lease import Lease, LeaseKeeper
from flowq.runtime.housekeeping.pause_watch import PauseWatch
from flowq.runtime.housekeeping.promoter import Promoter
from flowq.runtime.housekeeping.reclaimer import Reclaimer
from flowq.runtime.housekeeping.throughput_recorder import ThroughputRecorder
from flowq.runtime.identity import Identity
from flowq.runtime.lanes.handler_factory import HandlerFactory
from flowq.runtime.lanes.quarantine import Quarantine
from flowq.runtime.lanes.stopping import sign_off, stop_stages
from flowq.runtime.lanes.tasks import LastingTasks
from flowq.runtime.resources import Resources
from flowq.runtime.run import RunOptions
from flowq.runtime.stage.consumer import Consumer
from flowq.runtime.stage.stage_runner import StageRunner
from flowq.runtime.stage.writing import Writing


@dataclass(frozen=True, slots=True)
class Workplace:
    """What all lanes of a process share. `supervised`: another process watches this one."""

    plan: Plan
    options: RunOptions
    stages: Sequence[StagePlan]
    facts: Mapping[str, Any]
    resources: Resources
    handlers: HandlerFactory
    leases: LeaseKeeper
    pauses: PauseWatch
    on_failure: Callable[[BaseException], None]
    supervised: bool


class Lane:
    """The stages of a process in one shard. The process has a name and a lease of its own there."""

    def __init__(self, place: Workplace, broker: Broker, identity: Identity, writing: Writing) -> None:
        self.broker = broker
        self.identity = identity
        self.writing = writing
        self._place = place
        self._edges = [edge for stage in place.stages for edge in stage.in_edges]
        self._all_edges = [edge.name for edge in place.plan.edges]
        self._tasks = LastingTasks(place.on_failure)
        self._has_stopped_in_order = False
        self._promoter = Promoter(broker, self._edges)
        self.runners = [StageRunner(self._new_consumer(stage), broker.world) for stage in place.stages]
        self._lease = Lease(broker, identity, place.facts, silent_seconds=self._silent_seconds)

    def _new_consumer(self, stage: StagePlan) -> Consumer:
        delayed = self._promoter.delayed
        return Consumer(stage, self._place.plan, self.broker, self.identity, self.writing, delayed=delayed)

    @property
    def is_idle(self) -> bool:
        """Whether no handler is running for this shard."""
        return not any(runner.consumer.running for runner in self.runners)

    def _silent_seconds(self) -> float:
        return max((runner.consumer.reader.silent_seconds for runner in self.runners), default=0.0)

    # Start

    async def register(self) -> None:
        """Create what the stages read from, and register."""
        if self._edges:
            await retry_until_available(
                self.broker.world,
                lambda: Edges(self.broker).ensure_groups(self._edges),
                what="creating consumer groups",
            )
        await self._place.leases.keep(self._lease)

    async def start(self) -> None:
        """Start reading and handling, and all that goes with it."""
        place = self._place
        await asyncio.gather(*(runner.connect() for runner in self.runners))
        handlings = [
            place.handlers.make(runner.stage, runner.consumer.early.commit, shard=self.broker.shard)
            for runner in self.runners
        ]
        await place.handlers.start_pools()
        for runner, handling in zip(self.runners, handlings, strict=True):
            place.resources.context.run(runner.start, handling)
            for task in runner.tasks:
                self._tasks.watch(task)
        for job in self._jobs():
            self._tasks.spawn(run_job(self.broker.world, job), job.name)

    def _jobs(self) -> list[Job]:
        place, consumers = self._place, [runner.consumer for runner in self.runners]
        jobs: list[Job] = []
        if consumers:
            jobs += [ThroughputRecorder(self.broker, consumers, self.identity, edges=self._all_edges), self._promoter]
        if ClaimCheck.of(self.broker, place.plan) is not None:
            jobs.append(ClaimKeeper(self.broker))
        if not self.broker.dialer.is_private:
            reclaimer = Reclaimer(
                self.broker,
                consumers,
                self.identity,
                all_edges=self._all_edges,
                lease_seconds=place.options.lease_seconds,
                supervised=place.supervised,
            )
            jobs += [ClockWatch(self.broker, place.plan), reclaimer]
        return jobs

    def quarantine(self) -> Quarantine:
        """What runs, instead of all this, the messages that crashed workers have left."""
        place = self._place
        quarantine = Quarantine(self.broker, self.identity, place.plan, place.pauses, self.writing)
        for stage in place.stages:
            quarantine.add(stage, partial(place.handlers.make, stage, shard=self.broker.shard))
        return quarantine

    # Stop

    async def stop_stages(self, hurry: asyncio.Event) -> None:
        """Stop reading, finish running messages within the grace period, and hand back the rest."""
        self._tasks.is_stopping = True
        grace_seconds = self._place.options.grace_seconds
        address = self.broker.dialer.address
        self._has_stopped_in_order = await stop_stages(self.runners, grace_seconds, hurry, address=address)

    async def end_jobs(self) -> None:
        """End everything else."""
        self._tasks.is_stopping = True
        await self._tasks.cancel()
        self._place.leases.drop(self._lease)

    async def sign_off(self) -> None:
        """Sign off, unless others have to look for what was left here."""
        if self._has_stopped_in_order:
            await sign_off(self.broker, sorted(self.identity.names), self._all_edges)
