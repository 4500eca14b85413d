"""Causes: each stage has exactly one, the first that applies, and a full edge counts as full until four fifths."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.broker.inspection.causes import CauseKind, Situation, cause_of
from flowq.broker.inspection.fullness import capacity_of, full_edges
from flowq.graph.compilation.plan import EdgePlan

ON_HOLD = (("a.test", 40.0), ("b.test", 19.0))
EVERYTHING = Situation(
    is_paused=True, is_rated=True, full=("store",), holds=ON_HOLD, rate=0.5, waiting=900, delayed=900, running=8,
    slots=8,
)  # fmt: skip


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (EVERYTHING, "paused"),
        (Situation(full=("store",), is_rated=True, holds=ON_HOLD, waiting=900), "held_back"),
        (Situation(holds=ON_HOLD, is_rated=True, delayed=900, waiting=900), "no_worker"),
        (Situation(workers=1, holds=ON_HOLD, is_rated=True, delayed=900, waiting=900, rate=0.99), "on_hold"),
        (Situation(workers=1, holds=ON_HOLD, is_rated=True, delayed=900, waiting=900, rate=None), "on_hold"),
        (Situation(workers=1, holds=ON_HOLD, is_rated=True, delayed=21, waiting=900, rate=1.0), "paced"),
        (Situation(workers=1, is_rated=True, delayed=20, waiting=21, rate=30.0), "paced"),
        (Situation(workers=1, is_rated=True, delayed=20, waiting=201, rate=30.0, running=8, slots=8), "busy"),
        (Situation(workers=1, is_rated=True, delayed=20, waiting=20, rate=30.0), "keeps_up"),
        (Situation(workers=1, delayed=900, waiting=201, rate=500.0), "busy"),
        (Situation(workers=1, delayed=900, waiting=200, rate=20.0), "keeps_up"),
        (Situation(workers=1, waiting=35, rate=3.4), "busy"),  # ten seconds and more
        (Situation(workers=1, waiting=34, rate=3.4), "keeps_up"),
        (Situation(workers=1, waiting=1, rate=0.02), "keeps_up"),
        (Situation(workers=1, running=9, slots=10), "busy"),
        (Situation(workers=1, running=8, slots=10), "keeps_up"),
        (Situation(workers=1, running=None, slots=10, rate=1.0), "keeps_up"),
        (Situation(workers=1, running=None, slots=10, waiting=201), "busy"),
        (Situation(workers=1, rate=0.0), "idle"),
        (Situation(workers=1, rate=None), "idle"),
        (Situation(workers=1, rate=None, is_over=True, has_run=True), "idle"),
        (Situation(is_over=True, has_run=True), "done"),
        (Situation(is_over=True, has_run=False), "idle"),
        (Situation(is_source=True, is_open=True, workers=1), "reading"),
        (Situation(is_source=True, is_open=True, workers=1, full=("store",)), "held_back"),
        (Situation(is_source=True, is_open=True, workers=1, is_paused=True), "paused"),
        (Situation(is_source=True, is_open=True), "no_worker"),
        (Situation(is_source=True, is_finished=True, full=("store",), is_paused=True), "done"),
        (Situation(is_source=True, full=("store",), workers=1), "idle"),  # not in this run
    ],
)
def test_the_cause_is_the_first_that_applies(situation: Situation, expected: str) -> None:
    assert cause_of(situation).kind.value == expected


def test_a_hold_tells_its_keys_and_when_the_first_ends() -> None:
    cause = cause_of(Situation(workers=1, holds=ON_HOLD, waiting=3))

    assert (cause.keys, cause.seconds) == (("b.test", "a.test"), 19.0)
    assert cause.as_json() == {"kind": "on_hold", "by": None, "keys": ["b.test", "a.test"], "seconds": 19.0}


def test_what_is_held_back_names_the_stage_behind_the_fullest_edge() -> None:
    assert cause_of(Situation(workers=1, full=("store", "index"))).by == "store"


COUNTS = st.integers(0, 1000)
SITUATIONS = st.builds(
    Situation,
    is_source=st.booleans(), is_open=st.booleans(), is_finished=st.booleans(), is_paused=st.booleans(),
    is_rated=st.booleans(), is_over=st.booleans(), has_run=st.booleans(),
    full=st.lists(st.sampled_from("abc"), max_size=2).map(tuple),
    holds=st.lists(st.tuples(st.text(max_size=3), st.floats(0, 1e9)), max_size=3).map(tuple),
    workers=st.integers(0, 3), rate=st.none() | st.floats(0, 1e6), waiting=COUNTS, delayed=COUNTS,
    running=st.none() | COUNTS, slots=COUNTS,
)  # fmt: skip


@given(SITUATIONS)
def test_every_situation_has_one_cause_and_no_number_that_is_not_known(situation: Situation) -> None:
    cause = cause_of(situation)

    assert isinstance(cause.kind, CauseKind)
    assert (cause.kind is CauseKind.HELD_BACK) == bool(cause.by)
    assert (cause.seconds is None) == (not situation.holds)
    assert cause.seconds is None or cause.seconds == min(seconds for _, seconds in situation.holds)
    if cause.slots:
        assert (cause.running, cause.slots) == (situation.running, situation.slots)
        assert cause.running is not None
        assert cause.running >= 0.9 * cause.slots
    if situation.is_source:
        assert cause.kind not in (CauseKind.BUSY, CauseKind.PACED, CauseKind.ON_HOLD, CauseKind.KEEPS_UP)


@given(st.lists(st.integers(0, 20), max_size=40), st.integers(0, 40))
def test_an_edge_is_full_from_its_limit_until_four_fifths(levels: list[int], looked_after: int) -> None:
    expected = False
    for level in levels:
        expected = level >= 10 or (expected and level >= 8)
    earlier, later = ([{"a>b": level} for level in part] for part in (levels[:looked_after], levels[looked_after:]))

    at_once = full_edges({"a>b": 10.0}, earlier + later)
    in_two_looks = full_edges({"a>b": 10.0}, later, full_edges({"a>b": 10.0}, earlier))

    assert ("a>b" in at_once) == expected
    assert in_two_looks == at_once


def test_an_edge_that_is_gone_or_of_which_nothing_was_counted_is_not_full() -> None:
    assert full_edges({"a>b": 10.0}, [{"b>c": 100}, {"a>b": 9}], {"b>c"}) == frozenset()


@pytest.mark.parametrize(
    ("maxsize", "maxsize_bytes", "outstanding", "memory_bytes", "expected"),
    [
        (1000, 0, 10, 10_000_000, 1000),
        (1000, 1_000_000, 0, 400, 1000),  # of an empty edge nothing is known of the size of messages
        (1000, 1_000_000, 10, 100_000, 100),
        (0, 1_000_000, 10, 100_000, 100),
        (0, 0, 10, 100_000, math.inf),
        (1000, 1_000_000, 10, 0, 1000),  # a server that cannot tell its memory
    ],
)
def test_the_nearer_limit_is_what_an_edge_has_room_for(
    maxsize: int, maxsize_bytes: int, outstanding: int, memory_bytes: int, expected: float
) -> None:
    edge = EdgePlan("a>b", "a", "b", maxsize=maxsize, maxsize_bytes=maxsize_bytes)
    assert capacity_of(edge, outstanding, memory_bytes) == expected


def test_feedback_stops_nothing_and_is_never_full() -> None:
    edge = EdgePlan("b>a", "b", "a", feedback=True, maxsize=10)
    assert capacity_of(edge, 20, 1000) == math.inf
