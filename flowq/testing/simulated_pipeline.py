"""A pipeline whose workers run in a simulation: started, fed, drained, stopped and checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from flowq.broker.redis_streams import Broker
from flowq.delivery.edge import inlet_of
from flowq.durations import duration_text
from flowq.errors import UsageError
from flowq.graph.compilation.plan import Plan
from flowq.inspector import Inspector
from flowq.publisher import Publisher
from flowq.runtime.handlers.observation import Observer
from flowq.runtime.process.starting import start_run
from flowq.runtime.run import RunOptions
from flowq.testing.decoding import Decoding
from flowq.testing.draining import Obstacles, Progress, not_drained
from flowq.testing.faults import Failover, Fault
from flowq.testing.fleet import Duty, Fleet, follow_tasks
from flowq.testing.invariants import check_invariants
from flowq.testing.journal import Journal
from flowq.testing.observed_state import ObservedState
from flowq.testing.scenario import Scenario
from flowq.testing.simulation.calls import RedisCall
from flowq.testing.simulation.settle_calls import settlement_in
from flowq.testing.simulation.tap import Tap
from flowq.testing.simulation.trace import Event
from flowq.testing.simulation.virtual_loop import NothingLeft
from flowq.testing.simulation.write_log import Answered
from flowq.testing.surroundings import surroundings_of
from flowq.testing.verdicts import WorkerEnded
from flowq.testing.watched_handling import Watching

__tracebackhide__ = True  # pytest shows the line of the test

T = TypeVar("T")

_LOOK_AGAIN_SECONDS = 1.0
_PATHS_PER_LIMIT, _MOST_LIMITS = 5, 20  # of drain: an endless circle is told early, endless growth at all
_LONGEST_SECONDS = 100 * 366 * 86_400.0  # a century at once
_NOTICED_LEASES = 3  # others look twice before they take a worker for dead
_LAST_POLLS_SECONDS = 0.1  # how long before the end of `advance` they run: what they do is seen then
_CHANGES_NOTHING = frozenset(
    ("read", "pending", "renew", "promote", "snapshot", "wave", "client", "hget", "hgetall", "info", "mget", "xtrim")
)
_TEST = "test"
"""The name under which the test itself calls the server."""


class SimulatedPipeline:
    """One pipeline, its workers and their surroundings."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self.plan = scenario.plan
        self._n_workers = scenario.n_workers
        self.around = surroundings_of(scenario)
        self._decoding = Decoding(self.plan)
        self.journal = Journal(self.plan, self._decoding, self.around.world.time)
        self.progress = Progress()
        stages = tuple(stage.name for stage in self.plan.consumers)
        self._options = RunOptions(stages, lease_seconds=scenario.lease_seconds)
        self._run_id = ""
        self._taps: dict[str, Tap] = {}
        self.fleet = Fleet(self.plan, self)
        self.around.network.on_answer.append(self._answered)
        self.around.network.on_forgotten.append(self._forgot)
        self.around.network.trace.on_event.append(lambda _: self.progress.note_event())
        self._unfollow = follow_tasks(self.around.running_loop())
        self._broker: Broker | None = None

    # What each worker gets

    def new_broker(self, worker: str) -> Broker:
        """As in `Supplies`."""
        tap = self._taps[worker] = Tap(
            self.around.network,
            worker,
            on_crash=partial(self.fleet.crash, worker),
            on_restart=lambda: self.fleet.soon(self.fleet.restart(worker)),
            is_faulty=worker != _TEST,
        )
        broker = self.around.broker_over(tap)
        broker.run_id = self._run_id
        return broker

    def new_observer(self, worker: str) -> Observer:
        """As in `Supplies`."""
        return Watching(worker, self.journal, self._taps[worker])

    def _answered(self, call: RedisCall, commands: Sequence[Sequence[Any]], replies: Sequence[Any]) -> None:
        is_success = False
        for command, reply in zip(commands, replies, strict=True):
            if call.name == "settle" and (settlement := settlement_in(command, reply)) is not None:
                self.journal.settled(call.worker, settlement)
                is_success = is_success or settlement.ends_any
            elif call.name == "start_run" and isinstance(reply, list):
                run_id, resumes = cast("tuple[bytes, int]", reply[:2])
                self._run_started(run_id.decode(), resumes=bool(resumes))
        if call.name not in _CHANGES_NOTHING:
            self.progress.note_change(is_success=is_success)

    def _forgot(self, answered: Answered) -> None:
        call = answered.call
        for command, reply in zip(answered.write.commands, answered.replies, strict=True):
            if call.name == "settle" and (settlement := settlement_in(command, reply)) is not None:
                self.journal.forgot(call.worker, settlement)

    def _run_started(self, run_id: str, *, resumes: bool) -> None:
        if not resumes and run_id != self._run_id:  # otherwise the same call has arrived twice
            self.journal.start_run()
        self._run_id = run_id

    def inject(self, faults: Sequence[Fault]) -> None:
        """More faults, which count from now on."""
        replace(self._scenario, faults=faults)  # which checks them
        if any(isinstance(fault, Failover) for fault in faults) and not self.around.injector.may_fail_over:
            hint = "name it at the start, harness(pipeline, faults=[Failover()]): writes are only remembered then"
            raise UsageError("a Failover cannot be injected later", hint=hint)
        for fault in faults:
            self.around.injector.add(fault)

    # Start and stop

    async def start(self) -> None:
        """Start the run and the workers."""

        async def starting() -> None:
            self._broker = self.new_broker(_TEST)
            await start_run(self.plan, self._broker, self._options, fresh=False)
            for _ in range(self._n_workers):
                await self.fleet.start(Duty(self._options))

        await self.around.run(starting())

    async def stop(self) -> None:
        """Stop all workers in good order, once the others have cleared up after those that died. No more faults."""

        async def stopping() -> None:
            for tap in self._taps.values():
                tap.is_faulty = False
            await self.fleet.until_replaced()  # one that starts is live before it is registered
            for _ in range(round(_NOTICED_LEASES * self._options.lease_seconds)):
                if self.around.known_workers() <= self.fleet.names:
                    break
                await asyncio.sleep(1)
            await self.fleet.stop()

        await self.around.run(stopping())

    async def close(self) -> None:
        """End everything at once, whatever state it is in."""
        for tap in self._taps.values():
            tap.kill()
        await self.around.run(self.fleet.bury())
        self._broker = None
        self._unfollow()
        self.around.close()

    # Input

    async def push(self, stage: str, messages: Sequence[Any], *, key: str | None, delay: float | str) -> None:
        """Publish messages to the inlet of a stage."""
        broker = self._require_open()

        async def pushing() -> None:
            async with _Feeding(self.plan, broker) as publisher:
                if len(messages) == 1:
                    pushed = await publisher.push(stage, messages[0], id=key, delay=delay)
                    self.journal.pushed[inlet_of(stage), pushed] += pushed.is_new
                else:
                    await publisher.push_many(stage, messages, id=key, delay=delay)

        await self._until_done(pushing())

    async def run_source(self, source: str, arguments: Mapping[str, Any]) -> None:
        """Run a source to its end, in a worker of its own."""
        if not self.plan.stage(source).is_source:
            raise UsageError(f'"{source}" is not a source', hint="push messages to a stage: await h.feed(stage, ...)")
        options = replace(self._options, stages=(source,), arguments=arguments)
        options.check(self.plan)
        broker = self._require_open()

        async def running() -> None:
            _, sources = await start_run(self.plan, broker, options, fresh=False)
            if sources:
                worker = await self.fleet.start(Duty(options, sources))
                try:
                    await worker.until_ended()
                finally:
                    await self.fleet.retire_all_of(worker.duty)

        await self._until_done(running())

    async def steer(self, change: Callable[[Inspector], Coroutine[Any, Any, T]]) -> T:
        """Change something from outside, as a person does with a command."""
        return await self._until_done(change(Inspector(self.plan, self._require_open())))

    @property
    def is_open(self) -> bool:
        """Whether it has started, and has not been closed."""
        return self._broker is not None

    def _require_open(self) -> Broker:
        if self._broker is None:
            raise UsageError("the harness is not open", hint="async with harness(pipeline) as h: ...")
        return self._broker

    # Time

    async def drain(self, limit: int, within_seconds: float | None) -> None:
        """Wait until nothing is outstanding and no handler runs. Raises NotDrained."""
        self._require_open()
        self.progress.n_fruitless = 0
        if within_seconds is None:
            within_seconds = self.around.patience_seconds
        # The lanes of each shard ask for work, also while there is none.
        await self._until_done(self._drained(limit * self.plan.shards, within_seconds))

    async def _drained(self, limit: int, within_seconds: float) -> None:
        time, most_events = self.around.timers.time, self.progress.n_events + _MOST_LIMITS * limit
        deadline = time() + within_seconds
        while not self._is_drained():
            self._refuse_failed()
            if self.progress.n_fruitless > limit:
                raise self._not_drained(f"no message came to its end in {limit:,} calls to Redis")
            if (n_stages := self.journal.longest_path) > limit / _PATHS_PER_LIMIT:
                raise self._not_drained(f"a message has led to another through {n_stages:,} stages, maybe in a circle")
            if self.progress.n_events > most_events:
                raise self._not_drained(f"it goes on after {_MOST_LIMITS * limit:,} calls to Redis")
            if time() >= deadline:
                raise self._not_drained(f"it is not after {duration_text(within_seconds)}")
            again = self.around.timers.background_sleep(min(_LOOK_AGAIN_SECONDS, deadline - time()))
            await asyncio.wait([self.progress.next_change(), again], return_when=asyncio.FIRST_COMPLETED)
            again.cancel()

    async def _until_done(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await self.around.run(work)
        except NothingLeft as nothing:
            self._refuse_failed()
            raise self._not_drained(nothing.message) from None
        except asyncio.CancelledError:  # by code of a handler: the test itself waits meanwhile
            self._refuse_failed()
            raise

    def _is_drained(self) -> bool:
        # Sources end before `run_source` does: one that is still open has failed, which its caller knows.
        are_idle = all(worker.runner.is_idle for worker in self.fleet.live.values())
        return are_idle and not self.around.is_any_outstanding()

    def _refuse_failed(self) -> None:
        for worker in self.fleet.live.values():
            if (error := worker.failure) is not None:
                raise WorkerEnded(
                    f"worker {worker.name} has ended with an error: {error}",
                    hint="in production its process would end with this error",
                ) from error

    def _not_drained(self, why: str) -> Exception:
        obstacles = Obstacles(
            running=list(self.journal.running.values()),
            held=self.look(lambda state: state.held()),
            paused=self.look(lambda state: state.inspector.paused()),
            now=self.around.now,
        )
        return not_drained(why, self.look(lambda state: state.waiting()), obstacles)

    async def advance(self, seconds: float) -> None:
        """Let that much time pass."""
        self._require_open()
        if not 0 <= seconds <= _LONGEST_SECONDS:
            raise UsageError(f"time cannot move by {seconds:,} s", hint="await h.advance(minutes=5)")
        ends_at = self.around.timers.time() + seconds

        async def passing() -> None:
            await asyncio.sleep(seconds - _LAST_POLLS_SECONDS)  # background polls that a leap skips end with it
            await asyncio.sleep(ends_at - self.around.timers.time())

        await self._until_done(passing())
        self._refuse_failed()

    async def step(self) -> Event:
        """Let one more event happen."""
        self._require_open()
        trace = self.around.network.trace
        before = len(trace)

        async def stepping() -> None:
            while len(trace) == before:
                await self.progress.next_event()

        await self._until_done(stepping())
        return list(trace)[before]

    # Looking

    def look(self, reading: Callable[[ObservedState], Coroutine[Any, Any, T]]) -> T:
        """Look at the state of the pipeline, while nothing moves."""
        self._require_open()
        return self.around.look(lambda broker: reading(ObservedState(self.plan, broker, self._decoding)))

    def check(self) -> None:
        """Raise InvariantBroken if anything was lost, doubled or left behind."""
        has_failed_over = any(isinstance(fault, Failover) for fault in self.around.injector.fired)
        # In several shards, what a test feeds is confirmed, and the journal forgets what a server has forgotten.
        journal = None if has_failed_over and self.plan.shards == 1 else self.journal
        self.around.look(lambda broker: check_invariants(self.plan, broker, journal))


class _Feeding(Publisher):
    """A publisher over a broker that is open."""

    def __init__(self, plan: Plan, broker: Broker) -> None:
        super().__init__(plan)
        self._given = broker

    def _opening(self) -> AbstractAsyncContextManager[Broker]:
        return nullcontext(self._given)
