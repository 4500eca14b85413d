"""Tries a pipeline under random schedules and faults, seed by seed, and tells the first failure as a story."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Any

from flowq.errors import UsageError
from flowq.graph.declaration.resource import Resource
from flowq.graph.pipeline import Pipeline
from flowq.testing.exploration.attempt import Trial
from flowq.testing.exploration.case import Case
from flowq.testing.exploration.random_faults import ALL, SURVIVABLE, random_faults
from flowq.testing.exploration.story import Story
from flowq.testing.faults import Fault
from flowq.testing.pipeline_harness import Harness
from flowq.testing.scenario import START

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
    redis: str | None = None,
    on_progress: Callable[[Report], None] | None = None,
) -> Report:
    """Run `build` under a random schedule and random faults for each of many seeds, until it fails.

    Each seed gives a schedule, and none to four faults. The failing case is shrunk to the fewest faults, workers and
    messages and to the smallest numbers that fail at the same place, and raised as `Found`, which tells it as a story.
    The same seed takes the same course in every process, as far as the handlers do: they must not depend on the real
    clock, on chance of their own, or on what an earlier seed left in a global. All workers share the modules of the
    test, so what a handler keeps in a global survives a crash, as it would not in production; what a resource opens is
    opened by each worker for itself.

    pipeline: what is tried.
    build: an async function that feeds the harness it is given, and checks what came of it: `await h.feed(...)`,
        `await h.drain()`, assertions. Losses, doubles and what is left behind are checked without it.
    seeds: how many seeds are tried (200).
    start_seed: the first of them (0).
    faults: the kinds of faults (`SURVIVABLE`: those that change no result of a correct pipeline); none for no faults.
    size: how much input `build` feeds at first. It is then called as `build(h, size)`, and smaller sizes are tried
        when it fails (none).
    workers: how many workers run the pipeline (2).
    resources: gives the values that replace resources, new ones for each seed (none are replaced).
    start: what the virtual clock shows at first (as the harness does).
    redis: the URL of a server, as the harness takes it (a fake one).
    on_progress: called after each seed with what has been tried so far (not called).

    Raises Found, UsageError for fewer than one seed or an unknown kind of fault, and whatever the harness raises for a
    pipeline that it cannot run.

    >>> import asyncio, flowq
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
    __tracebackhide__ = True
    _check_options(seeds, faults, resources)
    trial = Trial(pipeline, build, resources, start, redis)
    report, began = Report(pipeline.name), time.perf_counter()
    with _QUIET:
        for seed in range(start_seed, start_seed + seeds):
            drawn = random_faults(pipeline.plan, seed, faults)
            attempt = await trial.attempt(Case(seed, drawn, workers=workers, size=size))
            report.seeds += 1
            report.fired.update(type(fault).__name__ for fault in attempt.fired)
            report.seconds = time.perf_counter() - began
            if on_progress is not None:
                on_progress(report)
            if attempt.error is not None:
                shrunk = await trial.shrunk(attempt)
                given = f"harness({pipeline.name}" + ", resources=resources()" * (resources is not dict)
                raise Found(shrunk.story(given, start), report) from shrunk.error
    return report


class _Quiet:
    """Without logs: they would be those of hundreds of runs in which things go wrong on purpose.

    One for all explorations: tasks and threads may explore at once, and end in any order.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._n_inside = 0
        self._before = logging.NOTSET

    def __enter__(self) -> None:
        with self._lock:
            self._n_inside += 1
            if self._n_inside == 1:
                self._before = logging.root.manager.disable
                logging.disable()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                logging.disable(self._before)


_QUIET = _Quiet()


def _check_options(seeds: int, faults: Collection[type[Fault]], resources: object) -> None:
    if seeds < 1:
        raise UsageError(f"an exploration of {seeds} seeds shows nothing", hint="seeds=200")
    if isinstance(faults, type):
        raise UsageError("faults= takes the kinds of faults in a list", hint=f"faults=[{faults.__name__}]")
    for kind in faults:
        if kind not in ALL:
            raise UsageError(f"faults=: {kind!r} is not a kind of fault", hint="faults=[Crash, Restart]")
    if not callable(resources):
        raise UsageError("resources= takes a function", hint="resources=lambda: {client: FakeClient()}")
