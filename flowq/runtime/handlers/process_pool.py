"""Runs handlers in a pool of processes. The child decodes, calls and encodes: only bytes and outcomes are sent."""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextvars import copy_context
from copy import copy
from dataclasses import replace
from functools import cache, partial
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Self

from flowq.broker.message_ids import MessageIds
from flowq.broker.program_import import EXIT_UNGUARDED, HANDLER_PROCESS, importing_program, unguarded
from flowq.delivery.dead_letter import user_traceback
from flowq.delivery.message import Delivery, Row
from flowq.delivery.settlement import Failed, Outcome, TimedOut, Undecodable
from flowq.errors import DecodeError, Place, UsageError
from flowq.graph.compilation.placing import router_of
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.tuning import Tuning
from flowq.graph.kinds import Placement
from flowq.graph.pipeline import pipelines_among
from flowq.large_bodies.store import BodyStore, redeem
from flowq.runtime.handlers.child_setup import ChildSetup
from flowq.runtime.handlers.frames import clear_frames
from flowq.runtime.handlers.handling import Handling
from flowq.runtime.handlers.portable import Portable, portable
from flowq.runtime.handlers.streams import flush_and_discard, forgiving_stdout, prepare_streams
from flowq.runtime.handlers.versions import Versions
from flowq.world import REAL


class HandlerProcessDied(Exception):
    """The process in which a handler ran has died: it crashed, or the system killed it for lack of memory."""


class TracebackInProcess(Exception):
    """The traceback of an error in another process: it cannot be pickled, its text can."""


class ProcessHandling:
    """Handles the deliveries of one stage in child processes: one per slot of the stage, at most one per core.

    A child is started when a delivery finds none free, runs one handler at a time, and is killed when the handler takes
    too long. So a handler that harms its process affects no other delivery.
    """

    def __init__(
        self,
        stage: StagePlan,
        plan: Plan,
        *,
        cores: int,
        versions: Versions,
        claims: BodyStore | None = None,
        child_setup: ChildSetup | None = None,
    ) -> None:
        self.stage = stage
        self._claims = claims
        self._versions = versions
        self._pipeline = plan.name
        self._origin = _module_of(plan), plan.name, plan.tuning, plan.shards, child_setup
        self._turns = asyncio.Semaphore(min(stage.concurrency, cores))
        self._free: list[ProcessPoolExecutor] = []
        self._children: set[ProcessPoolExecutor] = set()
        self._shard = 0

    def in_shard(self, shard: int) -> Self:
        """The same children, for deliveries of another shard: their outputs are addressed from there."""
        if shard == self._shard:
            return self
        other = copy(self)
        other._shard = shard
        return other

    async def start(self) -> None:
        """Start the first child. Raises UsageError if the child cannot import the pipeline."""
        child, is_unguarded = self._new_child(), False
        starting = asyncio.get_running_loop().run_in_executor(child, _is_ready)
        processes = list((child._processes or {}).values())  # pyright: ignore[reportPrivateUsage]
        try:
            found = await starting
        except BrokenProcessPool:  # the child has shown the reason on stderr
            child.shutdown(wait=True)  # while its thread waits for the process, the exit code may be unknown here
            found, is_unguarded = False, any(process.exitcode == EXIT_UNGUARDED for process in processes)
        except BaseException:
            self._end(child)
            raise
        if not found:
            self._end(child)
            if is_unguarded:
                text = (
                    f'pipeline "{self._pipeline}" has a stage with process=True, whose processes import this program: '
                )
                raise unguarded(text + "each would run it a second time")
            raise _not_importable(self._pipeline, self._origin[0])
        self._free.append(child)

    async def handle(self, row: Row) -> Outcome:
        """Handle one delivery. Raises nothing but cancellation."""
        delivery = Delivery(*row)
        async with self._turns:
            try:
                readable = await redeem(self._claims, delivery)
            except DecodeError as error:
                return await self._versions.judge(error, delivery)
            child = self._free.pop() if self._free else self._new_child()
            try:
                outcome = await self._handle_in(child, readable)
            except BaseException as error:
                self._end(child)
                if isinstance(error, BrokenProcessPool):
                    return Failed(HandlerProcessDied("the process that ran the handler died"))
                raise
            if isinstance(outcome, TimedOut):
                self._end(child)
            else:
                self._free.append(child)
        return await self._versions.judge(outcome.error, delivery) if isinstance(outcome, Undecodable) else outcome

    async def _handle_in(self, child: ProcessPoolExecutor, delivery: Delivery) -> Outcome:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(child, _is_ready)  # the start of a child must not count as time of the handler
        limit = asyncio.timeout(self.stage.timeout_seconds)
        try:
            async with limit:
                outcome, trace, place = await loop.run_in_executor(
                    child, _handle_in_child, self.stage.name, self._shard, delivery
                )
        except TimeoutError:
            assert self.stage.timeout_seconds is not None
            return TimedOut(self.stage.timeout_seconds)
        if isinstance(outcome, Portable):
            return Failed(_with_trace(outcome.unpacked(), trace), place)
        return Failed(_with_trace(outcome.error, trace), place) if isinstance(outcome, Failed) else outcome

    def _new_child(self) -> ProcessPoolExecutor:
        # Not fork: this process has threads and a loop, and forked copies of them hang sooner or later.
        child = ProcessPoolExecutor(1, mp_context=_Spawning(), initializer=_prepare_child, initargs=self._origin)
        self._children.add(child)
        return child

    def _end(self, child: ProcessPoolExecutor, *, wait: bool = False) -> None:
        self._children.discard(child)
        for process in list((child._processes or {}).values()):  # pyright: ignore[reportPrivateUsage]
            process.kill()
        child.shutdown(wait=wait, cancel_futures=True)

    def close(self) -> None:
        """End every child."""
        self._free.clear()
        for child in list(self._children):
            self._end(child, wait=True)  # not for long: the child is killed


class _HandlerProcess(SpawnProcess):
    """A child that is known by its name from its first moment, before it imports the program."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "name": HANDLER_PROCESS})


class _Spawning(SpawnContext):
    Process = _HandlerProcess


def _with_trace(error: BaseException, trace: str) -> BaseException:
    error.__cause__ = TracebackInProcess(f"\n{trace}")
    try:
        raise error  # only a raised error has a traceback, and only then is its cause shown
    except BaseException as raised:  # noqa: BLE001
        return raised


def _module_of(plan: Plan) -> str:
    """The module from which a child imports a pipeline. The main module comes last: a child has its own `__main__`."""
    main = sys.modules.get("__main__")
    modules = sorted(sys.modules.items(), key=lambda item: item[1] is main)
    for name, module in modules:
        for found in pipelines_among(getattr(module, "__dict__", {}).values()):
            if found.plan.is_of_the_code_of(plan):
                if module is not main:
                    return name
                if getattr(main, "__file__", None) is None and getattr(main, "__spec__", None) is None:
                    raise _not_importable(plan.name, _MAIN)  # a notebook, standard input, python -c
                return _MAIN
    raise UsageError(
        f'pipeline "{plan.name}" has a stage with process=True, but no module has it as an attribute',
        hint="write  name = Pipeline(...)  at the top level of a file: child processes import it",
    )


def _not_importable(pipeline: str, module: str) -> UsageError:
    where = "the program that runs it" if module == _MAIN else f"the module {module}"
    return UsageError(
        f'pipeline "{pipeline}" has a stage with process=True, but child processes cannot find it in {where}',
        hint="define it at the top level of a file that can be imported, above `if __name__ == ...`; "
        "put the code that starts the run below that line",
    )


_MAIN = "__main__"

# In the child

_new_handlings: dict[str, Callable[[int], Handling]] = {}


@cache
def _handling_of(stage: str, shard: int) -> Handling:
    return _new_handlings[stage](shard)


def _prepare_child(module: str, pipeline: str, tuning: Tuning, shards: int, setup: ChildSetup | None) -> None:
    prepare_streams()
    sys.stdout = forgiving_stdout()
    sys.stdout.reconfigure(line_buffering=True)  # it may be killed at any time
    threading.Thread(target=_end_with_parent, name="flowq-parent", daemon=True).start()
    if setup is not None:
        setup.begin()
    with importing_program():
        ids, names = MessageIds(REAL), vars(importlib.import_module(module))
    if setup is not None:
        setup.after_import()
    found = next((one for one in pipelines_among(names.values()) if one.name == pipeline), None)
    if found is None:
        return
    plan = found.tuned(tuning, shards=shards).plan
    for stage in plan.consumers:
        if stage.handler.placement is Placement.PROCESS:
            _new_handlings[stage.name] = partial(_new_handling, stage, plan, ids)


def _new_handling(stage: StagePlan, plan: Plan, ids: MessageIds, shard: int) -> Handling:
    inside = replace(stage, handler=replace(stage.handler, placement=Placement.LOOP), timeout_seconds=None)
    return Handling(inside, plan, router_of(inside, plan, ids.next, here=shard), resources={})


def _end_with_parent() -> None:
    """Exit when the parent dies: the child would otherwise wait for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _is_ready() -> bool:
    """Whether the child has found the pipeline. A reply also shows that it has started."""
    return bool(_new_handlings)


def _handle_in_child(stage: str, shard: int, delivery: Delivery) -> tuple[Outcome | Portable, str, Place | None]:
    """The outcome, and the traceback and place of a failure."""
    outcome = copy_context().run(_run, _handling_of(stage, shard).handle(delivery))
    flush_and_discard()
    if not isinstance(outcome, Failed):
        return outcome, "", None
    trace = user_traceback(outcome.error)
    clear_frames(outcome.error)
    error = portable(outcome.error)
    return (error if isinstance(error, Portable) else outcome), trace, outcome.place


def _run(handling: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Without a loop, so that the handler may run one of its own. It is not async, and so nothing is awaited."""
    try:
        handling.send(None)
    except StopIteration as finished:
        outcome: Outcome = finished.value
        return outcome
    raise AssertionError("a function that is not async has awaited something")
