"""Simulated workers start no threads and processes of their own: what they run is in the hands of the simulation."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from flowq import Pipeline, Retry, RetryLater, SourceContext, source, stage
from flowq.testing import Crash, harness

WEEK_SECONDS = 7 * 86_400.0


@stage(process=True)
def note_process(number: int) -> int:
    return os.getpid()


async def test_a_source_that_is_not_async_runs_in_the_thread_of_the_test() -> None:
    threads: list[int] = []

    @source
    def numbers() -> Iterator[int]:
        for number in range(3):
            threads.append(threading.get_ident())
            yield number

    @stage
    async def keep(number: int) -> None: ...

    async with harness(Pipeline("numbers", numbers >> keep)) as h:
        await h.run(numbers)
        await h.drain()

        h.expect(keep).any_order([0, 1, 2])
    assert threads == [threading.get_ident()] * 3


async def test_such_a_source_resumes_at_its_cursor_and_is_closed_when_its_worker_crashes() -> None:
    starts, n_closed = list[int](), 0

    @source
    def numbers(ctx: SourceContext[int]) -> Iterator[int]:
        nonlocal n_closed
        first = ctx.cursor or 0
        starts.append(first)
        try:
            for number in range(first, 50):
                yield number
                ctx.save(number + 1)
        finally:
            n_closed += 1

    @stage
    async def keep(number: int) -> None: ...

    async with harness(Pipeline("numbers", numbers >> keep), faults=[Crash(keep, before="settle")]) as h:
        await h.run(numbers)
        await h.drain()

        h.expect(keep).any_order(range(50))
    assert n_closed == len(starts)


async def test_a_stage_for_processes_runs_in_this_process() -> None:
    @stage
    async def keep(process: int) -> None: ...

    async with harness(Pipeline("numbers", note_process >> keep)) as h:
        await h.feed(note_process, 1, 2)
        await h.drain()

        h.expect(note_process).exactly([os.getpid()] * 2)


async def test_no_thread_renews_a_lease_or_watches_the_loop() -> None:
    names: list[str] = []

    @stage
    async def look(number: int) -> None:
        names.extend(thread.name for thread in threading.enumerate())

    async with harness(Pipeline("numbers", look)) as h:
        await h.feed(look, 1)
        await h.drain()

    assert names
    assert not {"flowq-lease", "flowq-block-watch"}.intersection(names)


async def test_a_message_that_waits_for_a_week_is_promoted_when_it_is_due() -> None:
    @stage(retry=Retry(attempts=3))
    async def later(number: int) -> None:
        if len(h.calls(later)) < 2:
            raise RetryLater("not yet", after=WEEK_SECONDS)

    async with harness(Pipeline("numbers", later)) as h:
        await h.feed(later, 1)
        await h.drain()

        first, second = h.calls(later)
    assert WEEK_SECONDS <= (second.at - first.at).total_seconds() < WEEK_SECONDS + 1
