"""Tries a pipeline under random schedules and faults, seed by seed, and tells the first failure as a story."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flowq.graph.declaration.resource import Resource
from flowq.graph.pipeline import Pipeline
from flowq.testing.exploration.case import Case
from flowq.testing.exploration.fault_words import happening
from flowq.testing.exploration.random_faults import SURVIVABLE, random_faults
from flowq.testing.exploration.shrinking import shrink
from flowq.testing.exploration.story import Moment, Story, tell
from flowq.testing.faults import Fault
from flowq.testing.journal import Call
from flowq.testing.pipeline_harness import Harness, harness
from flowq.testing.scenario import START
from flowq.testing.simulation.trace import Event

__tracebackhide__ = True  # pytest shows the line of the test

Build = Callable[[Harness], Awaitable[None]] | Callable[[Harness, int], Awaitable[None]]
"""Feeds a pipeline and checks what it did. With `size=`, it is called with the size of the input as well."""


@dataclass(slots=True)
class Report:
    """What an exploration has tried: how many seeds, how many faults of each kind took effect, the real seconds."""

    pipeline: str
    seeds: int = 0
    fired: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0

    def __str__(self) -> str:
        faults = ", ".join(f"{n} {kind}" for kind, n in sorted(self.fired.items())) or "none"
        return f"{self.pipeline}: {self.seeds} seeds in {self.seconds:.1f} s; faults: {faults}"


class Found(AssertionError):
    """A seed under which a pipeline failed its check, or lost, doubled or left something behind.

    `story` tells it, `seed` and `faults` are what the harness needs to see it again, and `report` says what was tried
    before. The failure itself is the cause of this error.
    """

    def __init__(self, story: Story, report: Report) -> None:
        super().__init__(str(story))
        self.story = story
        self.report = report
        self.seed = story.case.seed
        self.faults = story.case.faults


@dataclass(frozen=True, slots=True)
class _Attempt:
    """How one case went."""

    case: Case
    error: BaseException | None
    events: Sequence[Event]
    calls: Sequence[Call]

    @property
    def fired(self) -> Sequence[Fault]:
        """The faults that have taken effect, in order."""
        by_code = {str(fault): fault for fault in self.case.faults}
        return [by_code[event.detail] for event in self.events]

    def story(self, pipeline: str, start: datetime) -> Story:
        """How it failed."""
        assert self.error is not None
        calls = [Moment((call.at - start).total_seconds(), call.worker, "", call) for call in self.calls]
        by_code = {str(fault): fault for fault in self.case.faults}
        faults = [Moment(event.at_seconds, event.worker, happening(by_code[event.detail])) for event in self.events]
        return tell(pipeline, self.case, [*calls, *faults], self.error)

    def is_as(self, other: _Attempt) -> bool:
        """Whether both failed at the same place: shrinking must not lead from one failure to another."""
        return self.error is not None and other.error is not None and _place(self.error) == _place(other.error)


@dataclass(frozen=True, slots=True)
class _Explorer:
    pipeline: Pipeline
    build: Callable[..., Awaitable[None]]
    resources: Callable[[], Mapping[Resource[Any], Any]]
    start: datetime

    async def attempt(self, case: Case) -> _Attempt:
        h = harness(
            self.pipeline,
            seed=case.seed,
            faults=case.faults,
            workers=case.workers,
            resources=self.resources(),
            start=self.start,
        )
        error: BaseException | None = None
        try:
            async with h:
                await (self.build(h) if case.size is None else self.build(h, case.size))
        except (KeyboardInterrupt, SystemExit, asyncio.CancelledError):
            raise
        except BaseException as failed:  # noqa: BLE001  (pytest.fail() raises no Exception)
            error = failed
        calls = [call for stage in self.pipeline.plan.consumers for call in h.calls(stage.name)]
        return _Attempt(case, error, h.trace.of("fault", "crash"), calls)

    async def shrunk(self, failed: _Attempt) -> _Attempt:
        latest = failed

        async def fails(case: Case) -> bool:
            nonlocal latest
            attempt = await self.attempt(case)
            if not attempt.is_as(failed):
                return False
            latest = attempt
            return True

        await shrink(failed.case, fails)
        return latest


async def explore(
    pipeline: Pipeline,
    build: Build,
    *,
    seeds: int = 200,
    start_seed: int = 0,
    faults: Collection[type[Fault]] = SURVIVABLE,
    size: int | None = None,
    workers: int = 2,
    resources: Callable[[], Mapping[Resource[Any], Any]] = dict,
    start: datetime = START,
    on_progress: Callable[[Report], None] | None = None,
) -> Report:
    """Run `build` under a random schedule and random faults for each of many seeds, until it fails.

    Each seed gives a schedule, and none to four faults. The failing case is shrunk to the fewest faults, workers and
    messages and to the smallest numbers that fail at the same place, and raised as `Found`, which tells it as a story.
    The same seed takes the same course in every process, as far as the handlers do: they must not depend on the real
    clock, on chance of their own, or on what an earlier seed left in a global.

    pipeline: what is tried.
    build: an async function that feeds the harness it is given, and checks what came of it: `await h.feed(...)`,
        `await h.drain()`, assertions. Losses, doubles and what is left behind are checked without it.
    seeds: how many seeds are tried (200).
    start_seed: the first of them (0).
    faults: the kinds of faults (`SURVIVABLE`: those that change no result of a correct pipeline).
    size: how much input `build` feeds at first. It is then called as `build(h, size)`, and smaller sizes are tried
        when it fails (none).
    workers: how many workers run the pipeline (2).
    resources: gives the values that replace resources, new ones for each seed (none are replaced).
    start: what the virtual clock shows at first (as the harness does).
    on_progress: called after each seed with what has been tried so far (not called).

    Raises Found, and whatever the harness raises for a pipeline that it cannot run.

    >>> import flowq
    >>> @flowq.stage
    ... async def double(number: int) -> int:
    ...     return 2 * number
    >>> @flowq.stage
    ... async def store(number: int) -> None: ...
    >>> async def build(h: Harness) -> None:
    ...     await h.feed(double, 1, 2, 3)
    ...     await h.drain()
    ...     assert sorted(h.outputs(double)) == [2, 4, 6]
    >>> report = asyncio.run(explore(flowq.Pipeline("numbers", double >> store), build, seeds=5))
    >>> report.seeds
    5
    """
    explorer = _Explorer(pipeline, build, resources, start)
    report, began = Report(pipeline.name), time.perf_counter()
    with _quiet():
        for seed in range(start_seed, start_seed + seeds):
            drawn = random_faults(pipeline.plan, seed, faults)
            attempt = await explorer.attempt(Case(seed, drawn, workers=workers, size=size))
            report.seeds += 1
            report.fired.update(type(fault).__name__ for fault in attempt.fired)
            report.seconds = time.perf_counter() - began
            if on_progress is not None:
                on_progress(report)
            if attempt.error is not None:
                shrunk = await explorer.shrunk(attempt)
                raise Found(shrunk.story(pipeline.name, start), report) from shrunk.error
    return report


@contextmanager
def _quiet() -> Generator[None]:
    """Without logs: they would be those of hundreds of runs in which things go wrong on purpose."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def _place(error: BaseException) -> tuple[type[BaseException], str, int]:
    """The type of an error, and the file and line that raised it."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return type(error), "", 0
    return type(error), traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
