"""Makes the handlers of a process, with the threads and process pools that they use."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from flowq.broker.redis_streams import Broker
from flowq.graph.compilation.placing import router_of
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.kinds import Placement
from flowq.runtime.handlers.child_setup import ChildSetup
from flowq.runtime.handlers.handling import Commit, Handling
from flowq.runtime.handlers.observation import ObservedProcessHandling, Observer
from flowq.runtime.handlers.process_pool import ProcessHandling
from flowq.runtime.handlers.threads import HandlerThreads
from flowq.runtime.handlers.versions import Versions
from flowq.runtime.resources import Resources


class HandlerFactory:
    """Makes the handlers of these stages, once the resources are open. `observer` sees every call of theirs."""

    def __init__(
        self,
        plan: Plan,
        broker: Broker,
        stages: Sequence[StagePlan],
        resources: Resources,
        next_id: Callable[[], bytes],
        observer: Observer | None,
        child_setup: ChildSetup | None,
    ) -> None:
        self._plan = plan
        self._broker = broker
        self._stages = [self._placed(stage) for stage in stages]
        self._resources = resources
        self._next_id = next_id
        self._observer = observer
        self._child_setup = child_setup
        self._versions = Versions(plan, broker)
        self._threads: HandlerThreads | None = None
        self._process_pools: list[ProcessHandling] = []
        self._n_started = 0

    def make(self, stage: StagePlan, commit: Commit, *, shard: int = 0) -> Handling | ProcessHandling:
        """The handler of a stage for one shard; `commit` settles a delivery while it is running."""
        stage = self._placed(stage)
        if stage.handler.placement is Placement.PROCESS:
            return self._pool_of(stage).in_shard(shard)
        new_handling = Handling if self._observer is None else self._observer.new_handling
        return new_handling(
            stage,
            self._plan,
            router_of(stage, self._plan, self._next_id, here=shard),
            resources=self._resources.values(stage.handler.resources),
            threads=self._threads_for(stage),
            commit=commit,
            versions=self._versions,
            claims=self._broker.claims,
            world=self._broker.world,
        )

    def _pool_of(self, stage: StagePlan) -> ProcessHandling:
        """The processes of a stage, which all shards share."""
        for pool in self._process_pools:
            if pool.stage.name == stage.name:
                return pool
        new_pool = ProcessHandling if self._observer is None else partial(ObservedProcessHandling, self._observer)
        cores = os.cpu_count() or 1
        pool = new_pool(
            stage, self._plan,
            cores=cores, versions=self._versions, claims=self._broker.claims, child_setup=self._child_setup,
        )  # fmt: skip
        self._process_pools.append(pool)
        return pool

    async def start_pools(self) -> None:
        """Start the process pools of the handlers made since the last time."""
        new, self._n_started = self._process_pools[self._n_started :], len(self._process_pools)
        await asyncio.gather(*(pool.start() for pool in new))

    async def close(self) -> None:
        """Stop the threads and process pools. Nothing waits for a handler that is still running."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        for pool in self._process_pools:
            pool.close()

    def _placed(self, stage: StagePlan) -> StagePlan:
        """The same stage, on threads instead of processes in a simulation: it has no power over processes."""
        if stage.handler.placement is not Placement.PROCESS or not self._broker.world.is_simulated:
            return stage
        return replace(stage, handler=replace(stage.handler, placement=Placement.THREAD))

    def _threads_for(self, stage: StagePlan) -> HandlerThreads | None:
        if stage.handler.placement is not Placement.THREAD:
            return None
        if self._threads is None:
            slots = sum(stage.concurrency for stage in self._stages if stage.handler.placement is Placement.THREAD)
            self._threads = HandlerThreads(slots)
        return self._threads
