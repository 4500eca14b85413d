"""What a harness is given: messages that are fed, and sources that are run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from flowq import Pipeline, source
from flowq.errors import EncodeError, NotFound, UsageError
from flowq.runtime.sources.source_runner import SourceFailed
from flowq.testing import Crash, Refuse, Restart, Stall, harness
from flowq.testing.faults import Fault
from tests.testing.doubled_numbers import NUMBERS, double, keep


async def test_a_message_that_the_stage_does_not_accept_is_refused() -> None:
    async with harness(NUMBERS) as h:
        wrong: Any = "seven"
        with pytest.raises(EncodeError):
            await h.feed(double, wrong)
        with pytest.raises(NotFound):
            await h.feed("duoble", 7)


async def test_a_key_that_was_fed_before_is_fed_once() -> None:
    async with harness(NUMBERS) as h:
        await h.feed(double, 1, key="order 1")
        await h.feed(double, 1, key="order 1")
        await h.feed(double, 2, 3, key="orders")
        await h.feed(double, 2, 3, key="orders")
        await h.drain()

        h.expect(keep).any_order([2, 4, 6])


@pytest.mark.parametrize("fault", [Stall(60), Refuse("LOADING", seconds=60), Refuse("OOM", seconds=60)], ids=str)
async def test_what_a_test_feeds_is_stored_while_the_server_answers_no_worker(fault: Fault) -> None:
    async with harness(NUMBERS, faults=[fault]) as h:
        for number in range(5):
            await h.feed(double, number)
        await h.drain()

        h.expect(keep).any_order([0, 2, 4, 6, 8])


async def test_a_worker_that_is_told_twice_to_restart_is_replaced_once() -> None:
    async with harness(NUMBERS, faults=[Restart(), Restart()]) as h:
        for number in range(20):
            await h.feed(double, number)
            await h.advance(seconds=1)
        await h.drain()

        assert {call.worker for call in h.calls(double)} == {"w1", "w2"}
        assert len(h.outputs(keep)) == 20


async def test_a_source_is_run_with_its_arguments() -> None:
    @source
    def numbers(up_to: int) -> Iterator[int]:
        yield from range(up_to)

    @source
    async def others(up_to: int) -> AsyncIterator[int]:
        for number in range(up_to):
            yield -number

    pipeline = Pipeline("p", numbers >> double >> keep, others >> double)
    async with harness(pipeline) as h:
        await h.run(numbers, up_to=3)
        await h.drain()
        h.expect(keep).exactly([0, 2, 4])

        await h.run(others, up_to=3)
        await h.drain()
        h.expect(keep).exactly([0, 2, 4, 0, -2, -4])
        with pytest.raises(UsageError, match="is not a source"):
            await h.run("double")
        with pytest.raises(UsageError):
            await h.run(numbers, upto=3)


@pytest.mark.parametrize("nth", range(1, 5))
@pytest.mark.parametrize("fault", [Restart(), Crash("double", before="handler")], ids=str)
async def test_a_source_whose_worker_ends_is_run_to_its_end_by_the_next(fault: Fault, nth: int) -> None:
    @source
    async def count() -> AsyncIterator[int]:
        for number in range(20):
            await asyncio.sleep(0.01)
            yield number

    async with harness(Pipeline("counting", count >> double >> keep), faults=[replace(fault, nth=nth)]) as h:
        await h.run(count)
        await h.drain()

        assert set(h.outputs(double)) == set(range(0, 40, 2))


async def test_a_source_that_fails_raises_and_what_it_has_yielded_is_kept() -> None:
    @source
    def numbers() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    async with harness(Pipeline("p", numbers >> double >> keep)) as h:
        with pytest.raises(SourceFailed, match="disk"):
            await h.run(numbers)
        await h.drain()

        h.expect(keep).exactly([2])
