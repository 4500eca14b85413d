"""A story tells what matters of a case that failed, in few lines and in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flowq.testing import ALL, Crash, Stall
from flowq.testing.exploration.case import Case
from flowq.testing.exploration.fault_words import happening
from flowq.testing.exploration.random_faults import random_faults
from flowq.testing.exploration.story import Moment, Story, tell
from flowq.testing.faults import Fault
from flowq.testing.journal import Call
from tests.testing.planted import BUGS

START = datetime(2030, 1, 1, tzinfo=UTC)
PLAN = BUGS["counter_in_the_worker"].pipeline.plan


def called(at_seconds: float, number: int, *, worker: str = "w1", attempt: int = 1) -> Moment:
    at = START + timedelta(seconds=at_seconds)
    call = Call("bill", f"order {number}", str(number), attempt, worker, at)
    return Moment(at_seconds, worker, messages=(("bill", str(number)),), call=call)


def told(*moments: Moment, error: BaseException | None = None, case: Case | None = None) -> Story:
    return tell(case or Case(7), moments, error or AssertionError("no"), "harness(billing")


def test_moments_are_told_in_order_of_time_and_those_of_one_time_as_given() -> None:
    story = told(Moment(2, "w1", "dies"), called(1, 1), Moment(1, "w10", "waits"))

    assert story.lines == (
        "    1.000 s  w1   bill('order 1'), attempt 1",
        "    1.000 s  w10  waits",
        "    2.000 s  w1   dies",
    )


def test_a_message_that_runs_again_is_marked() -> None:
    story = told(called(1, 1), called(2, 2), called(17, 1, worker="w2"))

    assert [line.endswith("  <- again") for line in story.lines] == [False, False, True]


def test_of_many_messages_those_that_ran_once_are_left_out_but_no_fault() -> None:
    story = told(*(called(number, number) for number in range(50)), Moment(3.5, "w1", "dies"), called(60, 3))

    assert [line.partition(" s  ")[2] for line in story.lines] == [
        "w1  bill('order 3'), attempt 1",
        "w1  dies",
        "w1  bill('order 3'), attempt 1  <- again",
    ]


def test_of_too_many_lines_the_first_and_last_are_told() -> None:
    story = told(*(called(number, number) for number in range(100)))

    assert len(story.lines) == 25
    assert "… 76 more …" in story.lines[12]
    assert "order 0" in story.lines[0]
    assert "order 99" in story.lines[-1]


def test_a_long_message_and_unprintable_text_stay_on_their_line() -> None:
    story = told(Moment(0, "w1", call=Call("bill", "a\n" * 500, "1", 1, "w1", START), messages=(("bill", "1"),)))

    assert len(story.lines) == 1
    assert len(story.lines[0]) < 120


def test_a_story_fits_on_a_screen_however_long_its_error_is() -> None:
    story = told(called(0, 1), error=ValueError("not " + "a" * 100_000))

    assert story.error.startswith("ValueError: not aaa")
    assert len(story.error) < 2_100


def test_the_text_has_seed_faults_error_and_code() -> None:
    case = Case(7, (Crash("bill", after="handler"), Stall(20)), workers=1, size=3)
    story = told(called(0, 1), case=case, error=ValueError("one\ntwo"))

    assert (
        str(story)
        == """\
seed 7, 2 faults: Crash('bill', after='handler'), Stall(20)

      0.000 s  w1  bill('order 1'), attempt 1

ValueError: one
two

To see it again:

    async with harness(billing, seed=7, faults=[Crash('bill', after='handler'), Stall(20)], workers=1) as h:
        await build(h, 3)
"""
    )


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_kind_of_fault_has_words(kind: type[Fault]) -> None:
    texts = {happening(fault) for seed in range(20) for fault in random_faults(PLAN, seed, {kind})}

    assert texts
    assert all(text[0].islower() and text[-1] != "." for text in texts)
