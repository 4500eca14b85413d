"""What a failing case is shrunk to, and what random lists of faults look like."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import flowq
from flowq.testing.exploration.case import Case
from flowq.testing.exploration.random_faults import ALL, SURVIVABLE, random_faults
from flowq.testing.exploration.shrinking import shrink
from flowq.testing.faults import Crash, Fault, LostReply, Slow, Stall


@flowq.stage
async def double(number: int) -> int:
    return 2 * number


@flowq.stage
async def store(number: int) -> None: ...


PLAN = flowq.Pipeline("numbers", double >> store).plan
MANY = (
    Stall(60.0, nth=7),
    Crash("store", after="handler", nth=9),
    LostReply("settle", nth=4),
    Slow("double", 20.0, nth=3),
    Crash("double", before="settle", nth=2),
)


async def shrunk(case: Case, fails: Callable[[Case], bool]) -> Case:
    async def attempt(tried: Case) -> bool:
        return fails(tried)

    return await shrink(case, attempt)


async def test_the_faults_that_a_failure_needs_are_all_that_is_left_of_them() -> None:
    def fails(case: Case) -> bool:
        kinds = {type(fault) for fault in case.faults}
        return Crash in kinds and Stall in kinds

    case = await shrunk(Case(3, MANY), fails)

    assert case.faults == (Stall(0.1, nth=1), Crash("double", before="settle", nth=1))


async def test_a_number_becomes_as_small_as_the_failure_allows() -> None:
    case = await shrunk(Case(3, MANY), lambda case: any(fault.nth >= 5 for fault in case.faults))

    assert case.faults == (Crash("store", after="handler", nth=5),)


async def test_a_failure_that_needs_no_fault_has_none_one_worker_and_the_least_input() -> None:
    case = await shrunk(Case(3, MANY, workers=4, size=100), lambda case: (case.size or 0) >= 3)

    assert case == Case(3, (), workers=1, size=3)


async def test_a_case_that_does_not_fail_simpler_stays_as_it_is() -> None:
    given = Case(3, MANY, workers=3, size=5)

    assert await shrunk(given, lambda case: case == given) == given


async def test_no_case_is_tried_twice_and_not_more_than_allowed() -> None:
    tried: list[Case] = []

    async def fails(case: Case) -> bool:
        tried.append(case)
        return len(case.faults) >= 3

    await shrink(Case(3, MANY), fails, most_tries=20)

    assert len(tried) == len(set(tried)) == 20


def test_a_seed_gives_the_same_faults_again() -> None:
    assert [random_faults(PLAN, seed) for seed in range(50)] == [random_faults(PLAN, seed) for seed in range(50)]


@pytest.mark.parametrize("kinds", [SURVIVABLE, ALL, frozenset({Crash})])
def test_two_hundred_seeds_give_every_kind_that_is_asked_for_and_no_other(kinds: frozenset[type[Fault]]) -> None:
    given = {type(fault) for seed in range(200) for fault in random_faults(PLAN, seed, kinds)}

    assert given == kinds


def test_a_message_cannot_die_so_often_that_it_becomes_a_dead_letter() -> None:
    lists = [random_faults(PLAN, seed) for seed in range(1000)]

    assert max(sum(isinstance(fault, Crash) for fault in faults) for faults in lists) == 2


def test_some_seeds_have_no_fault_and_crashes_happen_at_each_stage_and_point() -> None:
    lists = [random_faults(PLAN, seed, {Crash}) for seed in range(500)]
    places = {
        (fault.stage, fault.before, fault.after) for faults in lists for fault in faults if isinstance(fault, Crash)
    }

    assert () in lists
    assert len(places) == 12  # before and after a read, a handler and a settlement, of both stages
