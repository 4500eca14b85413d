"""A timeline shows what a message went through, in order."""

from __future__ import annotations

import pytest

from flowq.broker.inspection.browse import State
from flowq.broker.inspection.family import Found
from flowq.dashboard.pages.trace_lanes import LANE, Span, lane_of, spans_of

NOW = 100_000
NEW, DELAYED_ONCE = b"a - - 0", b"a - - 0 f=10000"


@pytest.mark.parametrize(
    ("found", "failed", "words"),
    [
        (Found(NEW, State.WAITING, "a>b", 40_000), [], "waited 1m00s"),
        (Found(NEW, State.RUNNING, "a>b", 40_000, "w", "40000-0", 90_000), [], "waited 50s, has been running for 10s"),
        (Found(DELAYED_ONCE, State.DELAYED, "a>b", 130_000), [], "delayed 1m30s"),
        (
            Found(DELAYED_ONCE, State.DELAYED, "a>b", 130_000),
            [15_000, 45_000],
            "waited 5s, failed, delayed 30s, failed, delayed 55s",
        ),
        (Found(DELAYED_ONCE, State.DEAD, "b", 60_000), [20_000, 60_000], "waited 10s, failed, delayed 40s, failed"),
        (Found(NEW, State.DEAD, "b", 60_000), [60_000], "failed"),
        (Found(NEW, State.DONE, "b", 60_000), [], "settled"),
        (Found(DELAYED_ONCE, State.DONE, "b", 60_000), [20_000], "waited 10s, failed, delayed 40s, settled"),
        (
            Found(DELAYED_ONCE, State.RUNNING, "a>b", 10_000, "w", "1-0", 95_000),
            [20_000],
            "waited 10s, failed, delayed 1m15s, has been running for 5s",
        ),
    ],
)
def test_spans_in_words(found: Found, failed: list[int], words: str) -> None:
    assert lane_of(spans_of(found, failed, NOW), 0, NOW).words == words


@pytest.mark.parametrize(
    "span", [Span("fail", 0, 0), Span("run", NOW, NOW), Span("wait", 0, NOW), Span("live", 5, NOW)]
)
def test_every_span_is_seen_within_its_lane(span: Span) -> None:
    (bar,) = lane_of([span], 0, NOW).bars
    assert bar.x >= 0
    assert bar.x + bar.width <= LANE
    assert bar.width >= 1


def test_a_family_of_one_moment_has_a_lane() -> None:
    assert lane_of([Span("fail", NOW, NOW)], NOW, NOW).bars
