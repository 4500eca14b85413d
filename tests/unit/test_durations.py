"""Durations: text or numbers of seconds, accepted alike everywhere."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from flowq import Rate, Retry, RetryLater
from flowq.durations import seconds


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("250ms", 0.25),
        ("10s", 10.0),
        ("1.5m", 90.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        (" 10 s ", 10.0),
        ("2.5", 2.5),
        (3, 3.0),
        (0, 0.0),
        (0.1, 0.1),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_a_number_with_its_unit(written: float | str, expected: float) -> None:
    assert seconds(written) == pytest.approx(expected)


@pytest.mark.parametrize("written", ["", "s", "-1s", "10 parsecs", "1m30s", "1e3s", -1, math.inf, math.nan])
def test_anything_else_is_refused(written: float | str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(written)


def test_policies_and_errors_accept_the_same_text() -> None:
    retry = Retry(base="500ms", max="1m")

    assert retry == Retry(base=0.5, max=60)
    assert Rate(600, per="1m") == Rate(600, per=60)
    assert RetryLater(after="2h").after == 7200


def test_text_that_is_no_duration_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="'soon' is not a duration"):
        Retry(max="soon")
    with pytest.raises(ValueError, match="'1 minute' is not a duration"):
        Rate(600, per="1 minute")
    with pytest.raises(ValueError, match="'later' is not a duration"):
        RetryLater(after="later")


def test_a_delay_of_a_type_that_is_no_duration_is_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"datetime.timedelta\(seconds=30\) is not a duration; write a number"):
        RetryLater(after=timedelta(seconds=30))  # type: ignore[arg-type]


def test_bounds_written_as_text_must_not_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="base <= max"):
        Retry(base="1h", max="1m")
