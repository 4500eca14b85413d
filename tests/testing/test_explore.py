"""Exploring finds planted bugs, leaves their twins alone, and tells a story that can be seen again."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from functools import cache

import pytest

import flowq
from flowq.testing import Found, Harness, Report, explore, harness
from flowq.testing.faults import Crash
from tests.testing.planted import BUGS
from tests.testing.seeds import SEEDS

TELL = """
import asyncio, sys
from flowq.testing import Found, explore
from tests.testing.planted import BUGS
bug = BUGS[sys.argv[1]]
try:
    asyncio.run(explore(bug.pipeline, bug.build, size=bug.size, resources=bug.resources))
except Found as found:
    print(found.story)
"""


@flowq.stage
async def double(number: int) -> int:
    return 2 * number


@flowq.stage
async def store(number: int) -> None: ...


NUMBERS = flowq.Pipeline("numbers", double >> store)


FAULTS = "faults=[Crash('charge', after='handler')]"


@cache
def found_in(name: str) -> Found:
    bug = BUGS[name]
    with pytest.raises(Found) as raised:
        asyncio.run(explore(bug.pipeline, bug.build, seeds=200, size=bug.size, resources=bug.resources))
    return raised.value


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found_and_shrunk_to_two_faults_at_most(name: str) -> None:
    found = found_in(name)

    assert len(found.faults) <= 2
    assert type(found.__cause__) is AssertionError  # of the check of the test, not of flowq


@pytest.mark.parametrize("name", BUGS)
async def test_its_twin_without_the_bug_passes(name: str) -> None:
    bug = BUGS[name]

    report = await explore(bug.twin, bug.build, seeds=SEEDS, size=bug.size, resources=bug.resources)

    assert report.seeds == SEEDS


def test_a_story_names_the_fault_what_happened_and_how_to_see_it_again() -> None:
    found = found_in("charged_twice")
    story = str(found.story)

    assert found.faults == (Crash("charge", after="handler"),)
    assert story.startswith(f"seed {found.seed}, 1 fault: Crash('charge', after='handler')\n")
    assert "w1  charge(Order(id=0)), attempt 1\n" in story
    assert "w1  dies after the handler of charge\n" in story
    assert "w2  charge(Order(id=0)), attempt 1  <- again\n" in story
    assert "AssertionError: order 0 was charged 2 times" in story
    harness_again = f"harness(shop, resources=resources(), seed={found.seed}, {FAULTS}, workers=1) as h:"
    assert f"    async with {harness_again}\n        await build(h, 1)\n" in story


def test_what_a_story_says_can_be_seen_again() -> None:
    bug, case = BUGS["charged_twice"], found_in("charged_twice").story.case

    h = harness(bug.pipeline, seed=case.seed, faults=case.faults, workers=case.workers, resources=bug.resources())

    async def again() -> None:
        async with h:
            await bug.build(h, case.size or 0)

    with pytest.raises(AssertionError, match="was charged 2 times"):
        asyncio.run(again())


def test_a_seed_tells_the_same_story_in_every_process() -> None:
    def told(hash_seed: str) -> str:
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", TELL, "order_assumed"]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    assert told("1") == told("2") != ""


async def test_the_report_says_how_many_seeds_and_faults_there_were() -> None:
    seen: list[int] = []

    async def build(h: Harness) -> None:
        await h.feed(double, 1, 2, 3)
        await h.drain()

    def note(report: Report) -> None:
        seen.append(report.seeds)

    report = await explore(NUMBERS, build, seeds=5, start_seed=100, faults={Crash}, on_progress=note)

    assert seen == [1, 2, 3, 4, 5]
    assert report.seeds == 5
    assert set(report.fired) == {"Crash"}


async def test_an_error_of_the_check_itself_is_found_with_its_cause() -> None:
    async def build(h: Harness) -> None:
        await h.drain()
        raise KeyError("no such order")

    with pytest.raises(Found) as found:
        await explore(NUMBERS, build, seeds=3)

    assert isinstance(found.value.__cause__, KeyError)
    assert found.value.faults == ()


async def test_explorations_at_once_leave_logging_as_it_was() -> None:
    """The second one begins after the first, and ends after it."""
    before = logging.root.manager.disable

    async def build(h: Harness) -> None:
        await h.feed(double, 1)

    await asyncio.gather(explore(NUMBERS, build, seeds=1), explore(NUMBERS, build, seeds=3))

    assert logging.root.manager.disable == before


async def test_an_exploration_ends_when_its_task_is_cancelled() -> None:
    tried: list[int] = []

    async def build(h: Harness) -> None:
        tried.append(h.seed)
        await h.feed(double, 1)
        task.cancel()

    task = asyncio.ensure_future(explore(flowq.Pipeline("numbers", double), build, seeds=50))
    with pytest.raises(asyncio.CancelledError):
        await task

    assert tried == [0]
