"""Forecasts: when an edge will be full or empty, never from less than 8 seconds of data, and never a made-up number."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flowq.broker.inspection.forecasts import Forecast, ForecastKind, Level, forecast_of

NOW_MS = 1_700_000_000_000


def line(start: float, per_second: float, *, seconds: int = 30, every: int = 5) -> list[Level]:
    """The levels of an edge that changes evenly, from `seconds` ago until now."""
    times = range(-seconds, 1, every)
    return [(NOW_MS + 1000 * t, round(start + per_second * (t + seconds))) for t in times]


def forecast(levels: list[Level], *, capacity: float = 10_000, is_full: bool = False, moves: bool = True) -> Forecast:
    found = forecast_of(levels, capacity=capacity, is_full=is_full, moves=moves)
    assert found is not None
    return found


def test_an_edge_that_fills_is_full_when_its_room_is_used_up() -> None:
    found = forecast(line(1000, 20))

    assert found.kind is ForecastKind.FULL_IN
    assert found.seconds == pytest.approx((10_000 - 1600) / 20)


def test_an_edge_that_empties_is_empty_when_all_is_gone() -> None:
    found = forecast(line(5000, -20))

    assert found.kind is ForecastKind.EMPTY_IN
    assert found.seconds == pytest.approx((5000 - 600) / 20)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (line(0, 2), "full_in"),
        (line(0, 2, seconds=5), None),  # too little data
        (line(0, 2, seconds=7, every=1), None),
        (line(0, 2, seconds=8, every=1), "full_in"),
        (line(1000, 1), "growing"),  # full in more than two hours
        (line(9000, -0.2), "shrinking"),  # empty in more than ten hours
        (line(500, 0), "steady"),
        ([(NOW_MS + 1000 * t, 500 + 40 * (t % 10 == 0)) for t in range(-30, 1, 5)], "steady"),  # up and down
        ([(NOW_MS - 9000, 0), (NOW_MS, 36)], None),  # perhaps all at once
        ([(NOW_MS - 9000, 0), (NOW_MS - 4000, 38), (NOW_MS, 36)], "steady"),  # as it was
        ([(NOW_MS - 9000, 0), (NOW_MS - 4000, 20), (NOW_MS, 36)], "full_in"),
        (line(0, 0), "empty"),
        ([(NOW_MS, 0)], "empty"),  # that needs no past
        ([(NOW_MS, 12)], None),
        ([(NOW_MS - 60_000, 0), (NOW_MS - 2000, 100), (NOW_MS, 200)], None),  # what is older than 30 s does not count
    ],
)
def test_what_becomes_of_an_edge(levels: list[Level], expected: str | None) -> None:
    found = forecast_of(levels, capacity=10_000, is_full=False, moves=True)
    assert (found and found.kind.value) == expected


def test_what_is_full_is_said_to_be_full_whatever_its_level() -> None:
    assert forecast([(NOW_MS, 8500)], is_full=True).kind is ForecastKind.FULL


def test_without_a_limit_an_edge_only_grows() -> None:
    assert forecast(line(0, 1000), capacity=math.inf).kind is ForecastKind.GROWING


def test_an_edge_whose_stage_settles_nothing_is_stalled() -> None:
    assert forecast(line(500, 0), moves=False).kind is ForecastKind.STALLED
    assert forecast(line(500, 100), moves=False).kind is ForecastKind.FULL_IN


@given(
    st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 10**6)), min_size=1, max_size=10),
    st.floats(1, 1e7) | st.just(math.inf),
    st.booleans(),
    st.booleans(),
)
def test_a_forecast_is_a_time_to_come_or_none(levels: list[Level], capacity: float, is_full: bool, moves: bool) -> None:
    levels.sort()
    found = forecast_of(levels, capacity=capacity, is_full=is_full, moves=moves)

    if found is None:
        assert levels[-1][1] > 0
    elif found.kind in (ForecastKind.FULL_IN, ForecastKind.EMPTY_IN):
        assert found.seconds is not None
        assert 0 <= found.seconds < 10 * 3600
        assert any(level[0] <= levels[-1][0] - 8000 for level in levels)
    else:
        assert found.seconds is None


@given(st.integers(0, 5000), st.floats(-200, 200), st.integers(5001, 10**6))
def test_an_even_change_is_continued(start: int, per_second: float, capacity: int) -> None:
    levels = [(at, max(0, held)) for at, held in line(start, per_second)]
    now = levels[-1][1]
    assume(0 < now < capacity and abs(per_second) > 0.5 and all(held for _, held in levels))
    found = forecast(levels, capacity=capacity)

    room = capacity - now if per_second > 0 else now
    if found.seconds is not None:
        assert found.seconds == pytest.approx(room / abs(per_second), rel=0.05)
    else:
        assert found.kind in (ForecastKind.GROWING, ForecastKind.SHRINKING)
        assert room / abs(per_second) > 7000
