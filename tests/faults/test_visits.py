"""The verifier of a storm's visits detects violations, and a frozen worker excuses no more than it must."""

from __future__ import annotations

from tests.faults.visits import BURST, PER_SECOND, Visits

MS = 1_000_000


def events(*lines: str) -> Visits:
    """What happened, each line with its time in milliseconds."""
    timed = (line.partition(" ") for line in lines)
    return Visits(f"{int(at) * MS} {event}" for at, _, event in timed)


THREE_AT_ONCE = (
    *("7000 begins 11 host a", "7001 begins 12 host b", "7002 begins 13 host c"),
    *("7030 ends 11 host a", "7031 ends 12 host b", "7032 ends 13 host c"),
)


def test_a_third_run_beside_two_is_beyond_the_concurrency() -> None:
    assert len(events(*THREE_AT_ONCE).beyond_the_concurrency()) == 1


def test_a_run_that_was_frozen_may_be_replaced() -> None:
    assert not events("6990 frozen 11 - -", *THREE_AT_ONCE, "9990 thawed 11 - -").beyond_the_concurrency()


def test_a_run_of_a_worker_that_was_killed_stands_beside_none() -> None:
    assert not events(*THREE_AT_ONCE[:2], "7001 killed 11 - -", *THREE_AT_ONCE[2:3]).beyond_the_concurrency()


def test_a_worker_that_was_frozen_twice_at_once_is_no_excuse_once_it_is_thawed() -> None:
    frozen_twice = ("1000 frozen 11 - -", "2000 frozen 11 - -", "4000 thawed 11 - -", "5000 thawed 11 - -")

    assert len(events(*frozen_twice, *THREE_AT_ONCE).beyond_the_concurrency()) == 1


def test_more_starts_in_a_second_than_the_rate_and_its_burst_are_beyond_the_rate() -> None:
    most = PER_SECOND + BURST + PER_SECOND // 10
    starts = [f"{10 * i} begins 11 host {i}" for i in range(most + 1)]

    assert not events(*starts[:-1]).beyond_the_rate()
    assert len(events(*starts).beyond_the_rate()) == 1


def test_a_start_of_a_host_that_is_held_is_seen() -> None:
    visits = events("3000 begins 11 host a", "9000 begins 11 host b")

    assert len(visits.within([("host", 0.0, 4.0)])) == 1
    assert not visits.within([("host", 0.5, 4.0)])
    assert not visits.within([("other", 0.0, 4.0)])
