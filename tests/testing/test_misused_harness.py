"""A harness that is used in a way that could show nothing says so."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import Pipeline, Retry, stage
from flowq.errors import NotFound, UsageError
from flowq.testing import Crash, Fault, Harness, PoisonBody, Restart, Slow, harness


@stage
async def double(number: int) -> int:
    return 2 * number


@stage
async def show(number: int) -> None: ...


NUMBERS = Pipeline("numbers", double >> show)


@pytest.mark.parametrize("fault", [Crash("doubel", before="settle"), PoisonBody("doubel"), Slow("doubel", 5)], ids=str)
def test_a_fault_at_a_stage_that_does_not_exist_is_refused(fault: Fault) -> None:
    with pytest.raises(NotFound, match='did you mean "double"'):
        harness(NUMBERS, faults=[fault])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"faults": ["crash"]}, "'crash' is not a fault"),
        ({"resources": {"client": 1}}, "'client' is not a resource"),
        ({"faults": Restart()}, "takes a list of faults"),
        ({"seed": "seven"}, "a seed is a whole number, not 'seven'"),
        ({"workers": 1.5}, "cannot have 1.5 workers"),
        ({"lease": 0}, "a lease of 0 s is too short"),
    ],
)
def test_what_cannot_be_used_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        harness(NUMBERS, **options)


async def test_a_handler_that_feeds_its_own_harness_is_told_what_to_do() -> None:
    opened: list[Harness] = []

    @stage(retry=Retry(attempts=1))
    async def feeds(number: int) -> None:
        await opened[0].feed("feeds", number + 1)

    async with harness(Pipeline("p", feeds)) as h:
        opened.append(h)
        await h.feed(feeds, 1)
        await h.drain()

        assert [dead.error for dead in h.dead()] == ["UsageError: a handler cannot call the harness that it runs in"]


async def refuses_all(h: Harness) -> None:
    for use in (h.feed(double, 1), h.drain(), h.advance(seconds=1), h.step()):
        with pytest.raises(UsageError, match="not open"):
            await use
    for look in (h.dead, h.waiting, h.held, h.balance):
        with pytest.raises(UsageError, match="not open"):
            look()


async def test_neither_before_nor_after_its_block_is_a_harness_open() -> None:
    h = harness(NUMBERS)
    await refuses_all(h)

    async with h:
        await h.feed(double, 1)
    await refuses_all(h)

    assert h.outputs(show) == [2]


async def test_faults_that_have_not_happened_are_told() -> None:
    happens, does_not = Restart(), Crash(show, before="handler", nth=3)

    async with harness(NUMBERS, faults=[happens, does_not]) as h:
        await h.feed(double, 1)
        await h.drain()

        assert h.unfired == (does_not,)


def test_a_stage_instead_of_a_pipeline_is_refused_with_a_remedy() -> None:
    with pytest.raises(UsageError, match="a harness needs a pipeline") as refused:
        harness(double)  # type: ignore[arg-type]

    assert refused.value.hint is not None
    assert "Pipeline(" in refused.value.hint
