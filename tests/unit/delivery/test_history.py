"""A message that is put back keeps its earlier errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.delivery.history import Death, deaths_of, put_back
from flowq.delivery.message import Header

HEADER = Header("b7", "a1", "a1", 1, attempt=5, crashes=1, granted=True, type_tag="Link", unknown=("z=new",))


def test_a_message_put_back_is_the_same_with_its_attempts_counted_anew() -> None:
    back = put_back(HEADER, Death(7, 5, "ValueError: no"))

    assert (back.message_id, back.root_id, back.hops, back.type_tag) == ("b7", "a1", 1, "Link")
    assert (back.attempt, back.crashes, back.granted, back.unknown) == (1, 0, False, ("z=new",))


@given(st.lists(st.tuples(st.integers(0, 2**42), st.integers(1, 99), st.text()), min_size=1, max_size=9))
def test_the_last_five_deaths_survive_the_wire(deaths: list[tuple[int, int, str]]) -> None:
    header = HEADER
    for death in deaths:
        header = Header.decode(put_back(header, Death(*death)).encode())

    expected = [(at, attempts, error[:160]) for at, attempts, error in deaths[-5:]]
    assert [tuple(death) for death in deaths_of(header)] == expected


@pytest.mark.parametrize("past", ["", "?", "AAAA", "W10x", "WzFd", "W1sxLDJdXQ=="])
def test_a_history_that_cannot_be_read_is_none(past: str) -> None:
    assert deaths_of(Header("b7", "b7", "-", 0, past=past)) == ()
