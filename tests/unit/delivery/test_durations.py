"""Durations: what people write, in seconds."""

from __future__ import annotations

import math

import pytest

from flowq.delivery.durations import seconds


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
