"""The hour behind the slider: every five seconds, complete at any moment, small, and not more than an hour."""

from __future__ import annotations

import random

from flowq.dashboard.live.past import Moments
from flowq.dashboard.live.recent_means import RecentMeans


def texts_at(second: int) -> dict[str, str]:
    """Some change often, some seldom, some never."""
    return {"a": str(second), "b": str(second // 60), "c": str(second // 7 % 3), "d": "same", "e": "\ud800\n"}


def test_each_moment_has_the_texts_of_then() -> None:
    moments = Moments(3600)
    for second in range(600):
        moments.add(second * 1000, texts_at(second))

    for second in random.sample(range(600), 100):
        seen = texts_at(second // 5 * 5) | {"e": "\\ud800\n"}
        assert moments.at(second * 1000 + 999) == (second // 5 * 5000, seen)


def test_before_the_first_moment_is_the_first_and_after_the_last_the_last() -> None:
    moments = Moments(3600)
    assert moments.at(0) is None
    for second in (100, 105, 110):
        moments.add(second * 1000, {"a": str(second)})

    assert (moments.at(0), moments.at(10**12)) == ((100_000, {"a": "100"}), (110_000, {"a": "110"}))
    assert moments.since_ms == 100_000


def test_what_is_older_than_an_hour_goes_a_minute_at_a_time() -> None:
    moments = Moments(3600)
    for second in range(0, 3 * 3600, 5):
        moments.add(second * 1000, texts_at(second))

    assert moments.since_ms is not None
    kept_seconds = (3 * 3600 - 5) - moments.since_ms / 1000
    assert 3600 <= kept_seconds <= 3660


def test_new_places_begin_a_new_group_and_a_clock_set_back_a_new_history() -> None:
    moments = Moments(3600)
    moments.add(0, {"a": "1", "b": "1"})
    moments.add(5_000, {"a": "2"})
    assert moments.at(5_000) == (5_000, {"a": "2"})

    moments.add(1_000, {"a": "3"})

    assert (moments.since_ms, moments.at(9_000)) == (1_000, (1_000, {"a": "3"}))


def test_numbers_are_means_of_a_step_and_a_gap_is_unknown() -> None:
    rates = RecentMeans(step_ms=15_000, kept=60)
    for second, rate in ((0, 2.0), (5, 4.0), (15, 10.0), (60, 1.0)):
        shown = rates.add(1_000_000_000_000 // 15_000 * 15_000 + second * 1000, {"a": rate})

    assert shown == {"a": [3.0, 10.0, None, None, 1.0]}


def test_no_more_steps_are_kept_than_asked_for() -> None:
    rates = RecentMeans(step_ms=15_000, kept=60)
    for step in range(1, 200):
        shown = rates.add(step * 15_000, {"a": float(step)})

    assert list(shown["a"]) == [float(step) for step in range(140, 200)]
