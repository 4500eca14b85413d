"""Runs stages of a pipeline in this process: starts consumers and background tasks, and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

from flowq.broker.claims import check_claim_store, claim_check
from flowq.broker.client.retrying import retry_until_available
from flowq.broker.edges import Edges
from flowq.broker.message_ids import MessageIds
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers
from flowq.errors import BrokerRefused, FlowqError
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.routing import Emission
from flowq.graph.kinds import Placement
from flowq.runtime.handlers.handling import Commit, Handling
from flowq.runtime.handlers.observation import ObservedHandling, ObservedProcessHandling, Observer
from flowq.runtime.handlers.process_pool import ProcessHandling
from flowq.runtime.handlers.threads import HandlerThreads
from flowq.runtime.handlers.versions import Versions
from flowq.runtime.housekeeping.claim_keeper import ClaimKeeper
from flowq.runtime.housekeeping.clock_watch import ClockKeeper
from flowq.runtime.housekeeping.maintenance import LeaseKeeper, Promoter, Reclaimer, Ticker, kept_going
from flowq.runtime.housekeeping.pause_watch import Pauses
from flowq.runtime.identity import Identity, process_facts
from flowq.runtime.process.quarantine import Quarantine
from flowq.runtime.resources import Resources
from flowq.runtime.run import RunOptions
from flowq.runtime.source_arguments import source_arguments
from flowq.runtime.sources.source_crew import SourceCrew
from flowq.runtime.stage.duration_recorder import ThroughputKeeper
from flowq.runtime.stage.stage_runner import StageRunner

log = logging.getLogger("flowq.runtime")

_DAY_SECONDS = 86_400.0
_LATEST_STOP_SECONDS = 1.8
_SIGN_OFF_SECONDS = 1.0
_TRIES_TO_SIGN_OFF = 3


class Runner:
    """The stages of one process.

    `ended` gets the error of anything that must keep running and has failed, or a result when a quarantine, or a worker
    with `only_sources`, has nothing left to do. A failed source ends it once everything sent has been handled.
    `supervised`: another process watches this one, and will run a quarantine if it crashes.
    `observer` sees every handler call; without one, observation costs nothing.
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
    ) -> None:
        self._observer = observer
        self._supervised = supervised
        self._quarantined = quarantined
        self._plan = plan
        self._broker = broker
        self._options = options
        self._identity = Identity()
        self._ids = MessageIds()
        self._resources = Resources()
        self._versions = Versions(plan, broker)
        self._threads: HandlerThreads | None = None
        self._process_pools: list[ProcessHandling] = []
        served = [stage for stage in plan.consumers if options.runs(stage.name)]
        self._only_sources = only_sources
        self._stages = [] if only_sources else served
        self._sources = [stage for stage in plan.sources if stage.name in sources]
        edges = [edge for stage in self._stages for edge in stage.in_edges]
        self._promoter = Promoter(broker, edges)
        self._stage_runners = [
            StageRunner(stage, plan, broker, self._identity, delayed=self._promoter.delayed) for stage in self._stages
        ]
        self._pauses = Pauses(broker, self._stage_runners)
        served_edges = [edge for stage in served for edge in stage.in_edges]
        self._crew = SourceCrew(plan, broker, options, self._pauses, served_edges)
        self._keeper = LeaseKeeper(
            broker.dialer,
            broker.keys,
            self._identity,
            self._facts(),
            options.lease_seconds,
            silent_seconds=self._silent_seconds,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopping = self._has_stopped_in_order = False
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
        }

    # Life

    async def start(self) -> None:
        """Open the resources, register, and start reading. Raises ResourceFailed, UsageError, BrokerRefused."""
        arguments = {stage.name: source_arguments(stage, self._options.arguments) for stage in self._sources}
        handlers = [stage.handler for stage in (*self._stages, *self._sources)]
        await self._resources.open_all(resource for handler in handlers for resource in handler.resources.values())
        self._resources.broken.add_done_callback(self._on_end)
        await retry_until_available(lambda: check_claim_store(self._broker, self._plan), what="the claim store")
        edges = [edge for stage in self._stages for edge in stage.in_edges]
        if edges:
            await retry_until_available(lambda: Edges(self._broker).ensure_groups(edges), what="consumer groups")
        await self._sign_on()
        await self._pauses.look()
        if self._quarantined:
            self._start_quarantine()
            return
        await asyncio.gather(*(runner.connect() for runner in self._stage_runners))
        handlings = [self._handling(runner.stage, runner.consumer.early.commit) for runner in self._stage_runners]
        await asyncio.gather(*(pool.start() for pool in self._process_pools))
        for runner, handling in zip(self._stage_runners, handlings, strict=True):
            self._resources.context.run(runner.start, handling)
            for task in runner.tasks:
                self._watch(task)
        self._start_housekeepers()
        for stage in self._sources:
            resources = self._resources.values(stage.handler.resources)
            start = partial(self._crew.start, stage, arguments[stage.name], resources, self._ids.next, self.worker)
            self._watch(self._resources.context.run(start))
        if self._only_sources:
            self._spawn(self._crew.until_all_have_ended(), "end").add_done_callback(self._has_nothing_left)

    async def _sign_on(self) -> None:
        if self._broker.dialer.is_private:
            worker, facts = self._identity.worker, self._facts()
            await Workers(self._broker).register(worker, facts, lease_ms=round(_DAY_SECONDS * 1000), heartbeat="1")
        else:
            await self._keeper.start(self._broker)

    def _start_quarantine(self) -> None:
        quarantine = Quarantine(self._broker, self._identity, self._plan, self._pauses)
        for stage in self._stages:
            quarantine.add(self._handling(stage, partial(quarantine.commit, stage.name)))
        self._spawn(Ticker(self._keeper.tick).run(), "ticker")
        self._spawn(kept_going(self._pauses.run, "the keeper of pauses"), "pauses")
        task = self._spawn(quarantine.run(), "quarantine")
        task.add_done_callback(self._has_nothing_left)

    def _has_nothing_left(self, _: asyncio.Task[None]) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _start_housekeepers(self) -> None:
        self._spawn(kept_going(self._pauses.run, "the keeper of pauses"), "pauses")
        if self._stage_runners:
            stopwatches = {runner.stage.name: runner.consumer.stopwatch for runner in self._stage_runners}
            self._spawn(
                kept_going(ThroughputKeeper(self._broker, stopwatches).run, "the keeper of the throughput"),
                "throughput",
            )
            self._spawn(kept_going(self._promoter.run, "the promoter"), "promoter")
        if claim_check(self._broker, self._plan) is not None:
            self._spawn(kept_going(ClaimKeeper(self._broker).run, "the keeper of claims"), "claims")
        if self._broker.dialer.is_private:
            return
        self._spawn(Ticker(self._keeper.tick).run(), "ticker")
        clock_keeper = ClockKeeper(self._broker, self._plan)
        self._spawn(kept_going(clock_keeper.run, "the keeper of the clock"), "clock")
        reclaimer = Reclaimer(
            self._broker,
            [runner.consumer for runner in self._stage_runners],
            self._identity,
            all_edges=[edge.name for edge in self._plan.edges],
            lease_seconds=self._options.lease_seconds,
            supervised=self._supervised,
        )
        self._spawn(kept_going(reclaimer.run, "the reclaimer"), "reclaimer")

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """Stop reading, finish running messages within the grace period, hand back the rest, and sign off.

        Setting `hurry` ends the grace period at once.
        """
        hurry = hurry or asyncio.Event()
        self._is_stopping = True
        self._crew.cancel()
        failed: list[BaseException] = []
        for step in (
            partial(self._stop_consumers, hurry),
            self._end_tasks,
            self._release_lease,
            partial(self._resources.close, self._options.grace_seconds, hurry),
            self._close_pools,
        ):
            try:
                await step()
            except BaseException as error:  # noqa: BLE001  (the other steps must still be taken)
                failed.append(error)
        if failed:
            raise failed[0]

    async def _end_tasks(self) -> None:
        await self._crew.until_all_have_ended()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _release_lease(self) -> None:
        if not self._broker.dialer.is_private:
            await self._keeper.stop()
        if self._has_stopped_in_order:
            await self._sign_off()

    async def _close_pools(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        for pool in self._process_pools:
            pool.close()

    async def _stop_consumers(self, hurry: asyncio.Event) -> None:
        """Stop them in order if Redis replies. Otherwise nothing can be handed back: others will reclaim it."""
        grace_seconds = self._options.grace_seconds
        stopping: asyncio.Future[Any] = asyncio.gather(
            *(stop_and_close(runner, grace_seconds, hurry) for runner in self._stage_runners)
        )
        # Retrieve its error even if nothing waits for it any more: asyncio would warn.
        stopping.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        losing_patience: asyncio.Future[Any] = asyncio.create_task(self._lose_patience(hurry))
        await asyncio.wait([stopping, losing_patience], return_when=asyncio.FIRST_COMPLETED)
        losing_patience.cancel()
        if stopping.done():
            stopping.result()
            self._has_stopped_in_order = True
            return
        stopping.cancel()
        await asyncio.gather(*(runner.abandon() for runner in self._stage_runners))
        log.warning("Redis does not reply: other workers will reclaim the messages that were running here")

    async def _lose_patience(self, hurry: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.grace_seconds):
                await hurry.wait()
        await asyncio.sleep(_LATEST_STOP_SECONDS)

    async def _sign_off(self) -> None:
        edges = [edge.name for edge in self._plan.edges]
        for name in self._identity.names:
            # A broken connection is noticed at its first use: worth another attempt, but not a long wait.
            for _ in range(_TRIES_TO_SIGN_OFF):
                with contextlib.suppress(FlowqError, TimeoutError):
                    async with asyncio.timeout(_SIGN_OFF_SECONDS):
                        await Workers(self._broker).retire(name, edges)
                        break

    # Parts

    def _handling(self, stage: StagePlan, commit: Commit) -> Handling | ProcessHandling:
        if stage.handler.placement is Placement.PROCESS:
            new_process = (
                ProcessHandling if self._observer is None else partial(ObservedProcessHandling, self._observer)
            )
            handling = new_process(
                stage, self._plan, cores=os.cpu_count() or 1, versions=self._versions, claims=self._broker.claims
            )
            self._process_pools.append(handling)
            return handling
        new_handling = Handling if self._observer is None else partial(ObservedHandling, self._observer)
        return new_handling(
            stage,
            self._plan,
            Emission(stage, self._plan, self._ids.next),
            resources=self._resources.values(stage.handler.resources),
            threads=self._threads_for(stage),
            commit=commit,
            versions=self._versions,
            claims=self._broker.claims,
        )

    def _threads_for(self, stage: StagePlan) -> HandlerThreads | None:
        if stage.handler.placement is not Placement.THREAD:
            return None
        if self._threads is None:
            slots = sum(stage.concurrency for stage in self._stages if stage.handler.placement is Placement.THREAD)
            self._threads = HandlerThreads(slots)
        return self._threads

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


class TaskCancelled(FlowqError):
    """The user's code has cancelled a task of flowq, so that the run cannot continue."""

    code = "FQ306"

    def __init__(self, task: str) -> None:
        super().__init__(
            f'the task "{task}" of flowq was cancelled by code in this process',
            hint="cancel only tasks that you have started; asyncio.all_tasks() returns others as well",
        )


async def stop_and_close(runner: StageRunner, grace_seconds: float, hurry: asyncio.Event) -> None:
    """Stop a stage. Deliveries that Redis refuses to settle stay pending, and the next worker gets them."""
    for step in (partial(runner.stop, grace_seconds, hurry), runner.close):
        try:
            await step()
        except BrokerRefused as error:
            log.warning("%s could not settle everything: %s", runner.stage.name, error.detail)
