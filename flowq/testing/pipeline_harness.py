"""The harness of a pipeline: feeds it, moves its clock, and shows and checks what happened to each message."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from flowq.broker.inspection.pacing_keys import HeldKey
from flowq.durations import seconds as seconds_of
from flowq.errors import NotFound, UsageError
from flowq.graph.declaration.flow import Accepts
from flowq.graph.declaration.resource import Resource
from flowq.graph.pipeline import Pipeline
from flowq.inspector import Inspector
from flowq.printable import printable
from flowq.testing.expectation import Expectation
from flowq.testing.faults import Fault
from flowq.testing.journal import Call
from flowq.testing.observed_state import Balance, Dead, ObservedState, Waiting
from flowq.testing.recording.recorder import Recorder
from flowq.testing.recording.recording_file import Recording
from flowq.testing.replaced_resources import with_resources
from flowq.testing.scenario import ClockName, Scenario
from flowq.testing.simulated_pipeline import SimulatedPipeline
from flowq.testing.simulation.trace import Event, Trace
from flowq.testing.verdicts import NeverCompared

if TYPE_CHECKING:
    from flowq.graph.declaration.stage import Source

__tracebackhide__ = True  # pytest shows the line of the test

M = TypeVar("M")
T = TypeVar("T")

DECISIONS = 5_000
"""After how many calls to Redis without a single success `drain` gives up, unless a test says otherwise."""


class Harness:
    """One pipeline with its workers, its server and its clock, for the length of an `async with harness(...) as h`.

    Stages are named by themselves or by their names. Methods raise NotFound for a stage that is not in the pipeline.
    """

    def __init__(self, scenario: Scenario, resources: Mapping[Resource[Any], Any]) -> None:
        self._scenario = scenario
        self._opened: SimulatedPipeline | None = None
        self._resources = resources
        self._expectations: list[Expectation] = []
        self._recorded: list[tuple[Path, Sequence[str]]] = []

    async def __aenter__(self) -> Self:
        if self._opened is not None and self._opened.is_open:
            raise UsageError("the harness is open already", hint="make another one: harness(pipeline)")
        self._opened = SimulatedPipeline(self._scenario)
        try:
            await self._opened.start()
        except BaseException:
            await self._opened.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self._end()
        finally:
            await self._simulated.close()

    def __repr__(self) -> str:
        return f"<Harness of {self._scenario.plan.name}, seed {self._scenario.seed}>"

    @property
    def _simulated(self) -> SimulatedPipeline:
        if self._opened is None:
            raise UsageError("the harness is not open", hint="async with harness(pipeline) as h: ...")
        return self._opened

    # Input

    async def feed(self, stage: Accepts[M] | str, *messages: M, key: str | None = None, delay: float | str = 0) -> None:
        """Push messages to a stage, as a program does with a `Publisher`.

        key: pushing the same messages again with the same key within an hour stores nothing twice. For a single message
            it is the id of the message.
        delay: how long they are delayed: seconds, or text such as "5m".

        Raises what `Publisher.push` raises: EncodeError for a message that the stage does not accept, for instance.
        """
        await self._simulated.push(_name(stage), messages, key=key, delay=delay)

    async def run(self, source: Source[Any] | str, **arguments: Any) -> None:
        """Run a source to its end, with these arguments, beside the workers. Raises SourceFailed if it fails."""
        await self._simulated.run_source(_name(source), arguments)

    def inject(self, *faults: Fault) -> None:
        """More faults, which count what happens from now on: `h.inject(Crash(parse, before="settle"))`."""
        self._simulated.inject(faults)

    async def pause(self, stage: Any = None) -> None:
        """Pause a stage, or without one the whole pipeline: workers notice within a second, and start nothing new."""
        name = None if stage is None else self._stage(stage)
        await self._simulated.steer(lambda inspector: inspector.pause(name))

    async def resume(self, stage: Any = None) -> None:
        """Lift the pause of a stage, or without one all pauses."""
        name = None if stage is None else self._stage(stage)
        await self._simulated.steer(lambda inspector: inspector.resume(name))

    async def retry_dead(self, stage: Any = None) -> int:
        """Put the dead letters of a stage, or of all, back on their edges; returns their number."""
        name = None if stage is None else self._stage(stage)
        return sum((await self._simulated.steer(lambda inspector: inspector.retry_dead_letters(name))).values())

    # Time

    @property
    def now(self) -> datetime:
        """The time of the harness, in UTC."""
        return self._simulated.around.now

    async def drain(self, limit: int = DECISIONS, *, within: float | str | None = None) -> None:
        """Let the clock move until every message is settled, delayed and held ones included, and no handler runs.

        limit: how many calls to Redis for each shard may follow each other without a single message coming to its end.
            A message that leads to another through a fifth as many stages, or twenty times as many calls, end it as
            well.
        within: how long it may take by the clock of the harness: seconds, or text such as "5m". By default as long as
            it takes, or a minute on a real clock.

        Raises NotDrained, which names what is left and what it waits for, when nothing can happen any more or a limit
        is reached; WorkerEnded when a worker has ended with an error.
        """
        await self._simulated.drain(limit, None if within is None else seconds_of(within))

    async def advance(self, *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0) -> None:
        """Let exactly that much time pass."""
        await self._simulated.advance(seconds + 60 * minutes + 3600 * hours + 86_400 * days)

    async def step(self) -> Event:
        """Let the clock move until one more call to Redis has been answered, or a fault has struck: one decision."""
        return await self._simulated.step()

    # What has happened

    def outputs(self, stage: Any) -> list[Any]:
        """What a stage has returned, yielded or emitted, in order of settlement.

        Only attempts that were settled count: what a handler returned before its worker died is not among them. A
        sink, which returns nothing, has as outputs the messages that it was called with, and that are settled as
        done. A value that several stages accept is one output.
        """
        return self._simulated.journal.outputs(self._stage(stage))

    def calls(self, stage: Any) -> list[Call]:
        """The calls of a stage's handler, in order of their start, those that failed or were interrupted included."""
        return self._simulated.journal.calls(self._stage(stage))

    def expect(self, stage: Any) -> Expectation:
        """What the test expects of `outputs(stage)`: `.exactly([...])`, `.any_order([...])`, `.containing(...)`.

        Raises NeverCompared at the end of the harness if none of these was called.
        """
        name = self._stage(stage)
        expectation = Expectation(name, lambda: self._simulated.journal.outputs(name), self._notes)
        self._expectations.append(expectation)
        return expectation

    @property
    def seed(self) -> int:
        """What decides the schedule: a test may choose its input by it as well."""
        return self._scenario.seed

    @property
    def trace(self) -> Trace:
        """Every call to Redis, fault, crash and start so far, in order."""
        return self._simulated.around.network.trace

    @property
    def unfired(self) -> Sequence[Fault]:
        """The faults that have not happened: their points were not reached, or not so often.

        A test of one fault asserts that none is left; otherwise it may have shown nothing.
        """
        return self._simulated.around.injector.unfired

    def resource(self, resource: Resource[T]) -> T:
        """The value that was given in the place of a resource, such as a fake that knows what it was asked for.

        Raises NotFound if none was given.
        """
        if resource not in self._resources:
            raise NotFound(f"no value was given for {resource!r}", hint="harness(pipeline, resources={resource: fake})")
        value: T = self._resources[resource]
        return value

    def record(self, file: str | Path, *, mask: Sequence[str] = ()) -> None:
        """Write to a file, when the harness ends, what the pipeline was fed and what its stages have made of it.

        file: written anew. `flowq.testing.replay` feeds it to the pipeline again, and compares.
        mask: names of fields with secrets, or dotted paths: `password`, `*_token`, `user.email`, `headers.*`. In the
            file, text is "***" there, and a number 0. Errors of dead letters, and `bytes`, are written as they are.

        A test that fails writes nothing. The end of the harness raises UsageError for a mask after which a stage could
        not read its message, and for a file that cannot be written.
        """
        self._recorded.append((Path(file), tuple(mask)))

    def recording(self, mask: Sequence[str] = ()) -> Recording:
        """The same as a value, so far."""
        recorder = Recorder(self._simulated.plan, mask)
        for (stage, _), message in self._simulated.journal.entered.items():
            recorder.fed(stage, message())
        for stage, message, outputs in self._simulated.journal.handled:
            recorder.handled(stage, message(), [output() for output in outputs])
        for dead in self.dead():
            recorder.died(dead.stage, dead.message, dead.error or dead.reason)
        return recorder.recording(self.seed)

    # What there is now

    def dead(self, stage: Any = None) -> list[Dead]:
        """The dead letters, of one stage or of all."""
        name = None if stage is None else self._stage(stage)
        return self._look(lambda state: state.dead(name))

    def waiting(self, stage: Any = None) -> list[Waiting]:
        """The messages that are not settled, of one stage or of all: waiting, running or delayed."""
        name = None if stage is None else self._stage(stage)
        return self._look(lambda state: state.waiting(name))

    def held(self) -> Sequence[HeldKey]:
        """The pacing keys on hold."""
        return self._look(lambda state: state.held())

    def balance(self) -> Balance:
        """The counters of each stage in the current run. True if they add up."""
        return self._look(lambda state: state.balance())

    def inspect(self, reading: Callable[[Inspector], Coroutine[Any, Any, T]]) -> T:
        """Anything else that a `flowq.Inspector` shows: `h.inspect(lambda inspector: inspector.overview())`."""
        return self._look(lambda state: reading(state.inspector))

    def _look(self, reading: Callable[[ObservedState], Coroutine[Any, Any, T]]) -> T:
        return self._simulated.look(reading)

    def _stage(self, stage: Any) -> str:
        return self._simulated.plan.stage(_name(stage)).name

    # The end

    def _notes(self) -> list[str]:
        dead = self.dead()
        return [f"dead letter of {each.stage}: {printable(each.error or each.reason)}" for each in dead[:5]]

    async def _end(self) -> None:
        """All that is checked at the end of a test that has not failed."""
        await self._simulated.drain(DECISIONS, None)
        await self._simulated.stop()
        self._simulated.check()
        for expectation in self._expectations:
            if not expectation.is_compared:
                raise NeverCompared(
                    f"h.expect({expectation.stage}) has compared nothing",
                    hint="write what you expect: h.expect(stage).exactly([...])",
                )
        for file, mask in self._recorded:
            self.recording(mask).write(file)


def _name(stage: Any) -> str:
    return stage if isinstance(stage, str) else str(getattr(stage, "name", stage))


def harness(
    pipeline: Pipeline,
    *,
    seed: int = 0,
    faults: Sequence[Fault] = (),
    resources: Mapping[Resource[Any], Any] | None = None,
    redis: str | None = None,
    servers: int | None = None,
    clock: ClockName = "virtual",
    workers: int = 1,
    lease: float | str = "15s",
    start: datetime | None = None,
) -> Harness:
    """Run a pipeline in a test, in one thread: the workers, scripts and decisions are those of production.

    The clock is one of its own. It moves when nothing else can happen, and then at once to the next moment at which
    something is due, so that an hour of backoff takes no time. Delays, rates, holds, lingers, leases and timeouts
    follow it, in workers and scripts alike.

    When the block ends and the test has not failed, everything that is left is drained, the workers stop, and these
    hold: no message was lost, none was settled twice, nothing is left behind in Redis, and the balance adds up.

    seed: decides what is left to chance: how long calls take, and so the order of events, jitter and names. The same
        seed repeats a test exactly.
    faults: what goes wrong, such as `Crash(parse, before="settle")`. They happen to workers and sources, not to `feed`.
    resources: values that stand for resources, as `{client: FakeClient()}`. They are neither opened nor closed.
    redis: the URL of a server, of which only a new namespace is used; otherwise a fake one in memory, which runs the
        same scripts.
    servers: how many fake ones hold the shards of the pipeline, in turn; by default one for each shard.
    clock: "real" runs the workers in the loop of the test, and takes as long as production would.
    workers: how many. One that crashes is replaced a second later.
    lease: how long the others wait for a sign of life from a worker: seconds, or text such as "1m".
    start: what the clock shows at the beginning, with a time zone: 2030 in UTC, or now for a real clock.

    Raises UsageError for what is not a pipeline, a resource that the pipeline does not use, a clock that is not known,
    no servers, and a `start` without a time zone; NotFound for a fault at a stage that is not in the pipeline. Entering
    it raises BrokerUnavailable, and what opening the resources raises; leaving it NotDrained, InvariantBroken and
    NeverCompared.

    >>> import asyncio
    >>> from flowq import Pipeline, stage
    >>> @stage
    ... async def double(number: int) -> int:
    ...     return 2 * number
    >>> @stage
    ... async def show(number: int) -> None: ...
    >>> async def test() -> None:
    ...     async with harness(Pipeline("numbers", double >> show)) as h:
    ...         await h.feed(double, 1, 2, 3)
    ...         await h.drain()
    ...         h.expect(show).exactly([2, 4, 6])
    >>> asyncio.run(test())
    """
    if not isinstance(pipeline, Pipeline):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(
            f"a harness needs a pipeline, not {pipeline!r}",
            hint='harness(Pipeline("shop", check >> charge)); for one stage alone, flowq.testing.call',
        )
    given = resources or {}
    plan = with_resources(pipeline.plan, given)
    scenario = Scenario(plan, seed, faults, workers, seconds_of(lease), start, clock, redis, servers)
    return Harness(scenario, given)
