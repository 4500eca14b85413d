"""The simulated workers of one harness: each a runner of its own, which can stop, crash and be replaced."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence, Set
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards
from flowq.graph.compilation.plan import Plan
from flowq.runtime.handlers.observation import Observer
from flowq.runtime.process.runner import Runner
from flowq.runtime.resources import KEEPER_OF_RESOURCES, ResourceFailed
from flowq.runtime.run import RunOptions

_REPLACED_AFTER_SECONDS = 1.0
_OWNER: ContextVar[SimulatedWorker | None] = ContextVar("flowq_simulated_worker", default=None)


class Supplies(Protocol):
    """What each worker gets of its own."""

    def new_broker(self, worker: str) -> Broker:
        """A broker whose calls are those of this worker."""
        ...

    def new_observer(self, worker: str) -> Observer:
        """What watches its handlers."""
        ...


@dataclass(frozen=True, slots=True)
class Duty:
    """What a worker runs: all stages, or only these sources."""

    options: RunOptions
    sources: Sequence[str] = ()


class SimulatedWorker:
    """One worker process, as far as the pipeline can tell. `duty` is what it runs, and what its successor will run."""

    def __init__(self, name: str, runner: Runner, broker: Broker, duty: Duty) -> None:
        self.name = name
        self.runner = runner
        self.broker = broker
        self.duty = duty
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in their order: a set of tasks has a random one
        self.is_dead = False
        self.is_restarting = False
        self.successor: asyncio.Future[SimulatedWorker] = asyncio.get_running_loop().create_future()

    async def until_ended(self) -> None:
        """Return when it has nothing left to do, or its successor has. Raises its error."""
        either: list[asyncio.Future[Any]] = [self.runner.ended, self.successor]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self.is_dead or self.is_restarting:  # it has ended, but not because it had nothing left to do
            await (await self.successor).until_ended()
        else:
            await self.runner.ended

    @property
    def failure(self) -> BaseException | None:
        """The error with which it has ended by itself."""
        ended = self.runner.ended
        return ended.exception() if not self.is_dead and ended.done() and not ended.cancelled() else None

    async def stop(self) -> None:
        """Stop in good order."""
        try:
            await self.runner.stop()
        finally:
            await close_shards(self.broker)

    def ended(self, task: asyncio.Task[Any]) -> None:
        """One of its tasks has ended."""
        self.tasks.pop(task, None)

    def kill(self) -> None:
        """End it at once: nothing in it runs any more, and nothing is handed back.

        What its resources have opened stays open until it is buried, as in a process that dies.
        """
        self.is_dead = True
        for task in list(self.tasks):
            if task.get_name() != KEEPER_OF_RESOURCES:
                task.cancel()


class Fleet:
    """All workers of a harness, by name: "w1", "w2" and so on. `live` are those that run now."""

    def __init__(self, plan: Plan, supplies: Supplies) -> None:
        self._plan = plan
        self._supplies = supplies
        self._n_started = 0
        self._replacing: set[asyncio.Task[None]] = set()
        self.live: dict[str, SimulatedWorker] = {}
        self.dead: list[SimulatedWorker] = []

    @property
    def names(self) -> Set[str]:
        """The names under which those that run now are registered, or were."""
        return {name for worker in self.live.values() for name in worker.runner.names}

    async def start(self, duty: Duty) -> SimulatedWorker:
        """Start one more worker."""
        self._n_started += 1
        name = f"w{self._n_started}"
        broker = self._supplies.new_broker(name)
        runner = Runner(
            self._plan, broker, duty.options,
            sources=duty.sources, only_sources=bool(duty.sources), observer=self._supplies.new_observer(name),
        )  # fmt: skip
        worker = self.live[name] = SimulatedWorker(name, runner, broker, duty)
        try:
            await self._as(worker, runner.start())
        except asyncio.CancelledError:
            if not worker.is_dead:  # otherwise it has crashed over what it already handled in one of its shards
                raise
        return worker

    async def _as(self, worker: SimulatedWorker, work: Coroutine[Any, Any, None]) -> None:
        """Run it in a task of this worker: tasks that it starts are the worker's as well."""
        given = _OWNER.set(worker)
        try:
            task = asyncio.create_task(work)
        finally:
            _OWNER.reset(given)
        await task

    async def stop(self) -> None:
        """Stop all of them in good order, one after the other, those that are being replaced too."""
        await self.until_replaced()
        for name in list(self.live):
            await self.retire(name)

    async def until_replaced(self) -> None:
        """Wait until no worker is being replaced."""
        while self._replacing:
            await asyncio.wait(self._replacing)

    async def retire(self, name: str) -> None:
        """Stop one of them in good order."""
        worker = self.live[name]
        try:
            await self._as(worker, worker.stop())
        except asyncio.CancelledError:
            if not worker.is_dead:  # otherwise it has crashed meanwhile, and the caller was not cancelled
                raise
        finally:
            self.live.pop(name, None)

    async def retire_all_of(self, duty: Duty) -> None:
        """Stop the worker that has this duty now."""
        for worker in [worker for worker in self.live.values() if worker.duty is duty]:
            await self.retire(worker.name)

    async def restart(self, name: str) -> None:
        """Stop one of them in good order, and start another in its place."""
        worker = self.live.get(name)
        if worker is None or worker.is_restarting:  # two such faults may strike one worker
            return
        worker.is_restarting = True
        await self.retire(name)
        if not worker.is_dead:
            worker.successor.set_result(await self.start(worker.duty))

    async def bury(self) -> None:
        """End what is left of all workers, dead or alive."""
        for task in list(self._replacing):
            task.cancel()
        for worker in self.live.values():
            worker.kill()
        for worker in (*self.dead, *self.live.values()):
            with contextlib.suppress(ResourceFailed):
                await worker.runner.release()

    def crash(self, name: str) -> None:
        """End one of them at once; another starts in its place a little later."""
        if (worker := self.live.pop(name, None)) is None:
            return
        self.dead.append(worker)
        worker.kill()
        self.soon(self._replace(worker))

    async def _replace(self, dead: SimulatedWorker) -> None:
        await asyncio.sleep(_REPLACED_AFTER_SECONDS)
        dead.successor.set_result(await self.start(dead.duty))

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside everything else, as part of no worker."""
        given = _OWNER.set(None)
        try:
            task = asyncio.create_task(work)
        finally:
            _OWNER.reset(given)
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)


def follow_tasks(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Have each new task of a loop belong to the worker that starts it. Returns what ends that."""
    factory = loop.get_task_factory()
    following = factory if isinstance(factory, _Following) else _Following(factory)
    following.n_harnesses += 1
    loop.set_task_factory(following)

    def end() -> None:
        following.n_harnesses -= 1
        if following.n_harnesses == 0:
            loop.set_task_factory(following.before)

    return end


class _Following:
    """A task factory. Harnesses in the loop of one test share it, since they may end in any order."""

    def __init__(self, before: Any) -> None:
        self.before = before
        self.n_harnesses = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
        before = self.before
        task: Any = asyncio.Task(work, loop=loop, **options) if before is None else before(loop, work, **options)
        if (owner := _OWNER.get()) is not None:
            owner.tasks[task] = None
            task.add_done_callback(owner.ended)
        return task
