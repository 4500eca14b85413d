"""A harness that is used in a way that could show nothing says so."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import Pipeline, Retry, stage
from flowq.errors import NotFound, UsageError
from flowq.testing import (
    Crash,
    Fault,
    Harness,
    NeverCompared,
    NotAsExpected,
    PoisonBody,
    Restart,
    Slow,
    explore,
    harness,
)


@stage
async def double(number: int) -> int:
    return 2 * number


@stage
async def show(number: int) -> None: ...


NUMBERS = Pipeline("numbers", double >> show)


async def feed_one(h: Harness) -> None:
    await h.feed(double, 1)


@pytest.mark.parametrize("fault", [Crash("doubel", before="settle"), PoisonBody("doubel"), Slow("doubel", 5)], ids=str)
def test_a_fault_at_a_stage_that_does_not_exist_is_refused(fault: Fault) -> None:
    with pytest.raises(NotFound, match='did you mean "double"'):
        harness(NUMBERS, faults=[fault])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"faults": ["crash"]}, "'crash' is not a fault"),
        ({"resources": {"client": 1}}, "'client' is not a resource"),
        ({"resources": ["client"]}, "is not a dict"),
        ({"start": "2030"}, "start=2030 has no time zone"),
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


async def test_a_harness_that_is_open_is_not_opened_again() -> None:
    async with harness(NUMBERS) as h:
        with pytest.raises(UsageError, match="open already"):
            await h.__aenter__()
        await h.feed(double, 1)

    async with h:
        assert h.outputs(show) == []


async def test_to_contain_no_values_at_all_is_to_compare_nothing() -> None:
    async def compares_nothing() -> None:
        async with harness(NUMBERS) as h:
            await h.feed(double, 1)
            h.expect(show).containing(*[])

    with pytest.raises(NeverCompared):
        await compares_nothing()


async def test_an_iterator_of_expected_values_is_read_once() -> None:
    async with harness(NUMBERS) as h:
        await h.feed(double, 1, 2)
        await h.drain()

        given: Any = iter([2, 6])
        with pytest.raises(NotAsExpected, match="missing: 6\n  not expected: 4\n"):
            h.expect(show).exactly(given)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"seeds": 0}, "0 seeds shows nothing"),
        ({"faults": [Restart()]}, "Restart.nth=1. is not a kind of fault"),
        ({"faults": Restart}, "takes the kinds of faults in a list"),
        ({"resources": {}}, "takes a function"),
    ],
)
async def test_an_exploration_that_would_show_nothing_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        await explore(NUMBERS, feed_one, **options)


async def test_an_exploration_without_any_faults_tries_schedules() -> None:
    report = await explore(NUMBERS, feed_one, seeds=5, faults=())

    assert (report.seeds, report.fired.total()) == (5, 0)
