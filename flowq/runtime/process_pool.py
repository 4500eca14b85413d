"""Runs handlers in a pool of processes. A child decodes, calls and encodes: only bytes and outcomes travel."""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

from flowq.broker.message_ids import MessageIds
from flowq.delivery.message import Delivery
from flowq.delivery.settlement import Failed, Outcome
from flowq.errors import UsageError
from flowq.graph.emission import Emission
from flowq.graph.pipeline import Pipeline
from flowq.graph.plan import Placement, Plan, StagePlan
from flowq.runtime.handling import Handling


class HandlerProcessDied(Exception):
    """The process in which a handler ran has ended: a crash, or the system took it for lack of memory."""


class ErrorInProcess(Exception):
    """Stands for an error that could not travel from the process in which it was raised."""


class ProcessHandling:
    """Handles the deliveries of one stage in child processes, as many as the stage has slots, at most one per core.

    Children are started when the first delivery comes, and again when one has died.
    """

    def __init__(self, stage: StagePlan, plan: Plan, *, cores: int) -> None:
        self.stage = stage
        self._module = _module_of(plan)
        self._pipeline = plan.name
        self._size = min(stage.concurrency, cores)
        self._pool: ProcessPoolExecutor | None = None

    async def handle(self, delivery: Delivery) -> Outcome:
        """Handle one delivery. Only cancellation gets out."""
        pool = self._pool = self._pool or self._new_pool()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(pool, _handle_in_child, self.stage.name, delivery)
        except BrokenProcessPool:
            if self._pool is pool:
                self._pool = None
            return Failed(HandlerProcessDied("the process that ran the handler died"))

    def _new_pool(self) -> ProcessPoolExecutor:
        # Not fork: this process has threads and a loop, and a copy of either in a child hangs sooner or later.
        spawn = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(
            self._size, mp_context=spawn, initializer=_prepare_child, initargs=(self._module, self._pipeline)
        )

    def close(self) -> None:
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):  # pyright: ignore[reportPrivateUsage]
                process.kill()
            self._pool.shutdown(wait=False, cancel_futures=True)


def _module_of(plan: Plan) -> str:
    for name, module in list(sys.modules.items()):
        for value in list(getattr(module, "__dict__", {}).values()):
            if isinstance(value, Pipeline) and value.plan is plan:
                return name
    raise UsageError(
        f'pipeline "{plan.name}" has a stage with process=True, but is no attribute of a module',
        hint="write  name = Pipeline(...)  at the top level of a file: child processes import it",
    )


# In the child

_children: dict[str, Handling] = {}
_loop: asyncio.AbstractEventLoop | None = None


def _prepare_child(module: str, pipeline: str) -> None:
    global _loop
    _loop = asyncio.new_event_loop()
    asyncio.set_event_loop(_loop)
    ids = MessageIds()
    found = vars(importlib.import_module(module)).values()
    plan = next(value.plan for value in found if isinstance(value, Pipeline) and value.name == pipeline)
    for stage in plan.consumers:
        if stage.handler.placement is Placement.PROCESS:
            here = replace(stage, handler=replace(stage.handler, placement=Placement.LOOP))
            _children[stage.name] = Handling(here, plan, Emission(here, plan, ids.next), resources={})


def _handle_in_child(stage: str, delivery: Delivery) -> Outcome:
    assert _loop is not None
    outcome = _loop.run_until_complete(_children[stage].handle(delivery))
    return _portable(outcome) if isinstance(outcome, Failed) else outcome


def _portable(outcome: Failed) -> Outcome:
    try:
        copied = ForkingPickler.dumps(outcome)
        ForkingPickler.loads(copied)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        return outcome
    except Exception:  # noqa: BLE001  (whatever an error class of the user's does when it is copied)
        return Failed(ErrorInProcess(f"{type(outcome.error).__name__}: {outcome.error}"))
