"""What a source gives is published in order, and what lies between two cursors together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowq.delivery.settlement import Output
from flowq.runtime.sources.source_buffer import Gathered

Step = tuple[str, int]


def entry(n: int, size: int = 1) -> Output:
    return Output("a>b", b"%d" % n, b"x" * size)


@given(
    st.lists(st.sampled_from(["add", "save", "take"]), max_size=200),
    st.integers(1, 5),
    st.booleans(),
)
def test_nothing_is_lost_or_turned_round_and_a_cursor_comes_with_all_that_was_before_it(
    steps: list[str], most: int, holds: bool
) -> None:
    gathered = Gathered(holds=holds)
    added: list[bytes] = []
    taken: list[bytes] = []
    stored, saves_any = b"0", False

    def take(*, everything: bool = False) -> bool:
        nonlocal stored
        portion = gathered.take(most, everything=everything)
        if portion is None:
            return False
        taken.extend(entry.header for entry in portion.entries if isinstance(entry, Output))
        if portion.cursor is not None:
            stored = portion.cursor
        assert len(taken) >= int(stored)
        if holds and saves_any and portion.cursor is None:
            assert everything
        return True

    for step in steps:
        if step == "add":
            gathered.add([entry(len(added))])
            added.append(b"%d" % len(added))
        elif step == "save":
            saves_any = True
            gathered.save(b"%d" % len(added))
        else:
            take()
    while take(everything=True):
        pass

    assert taken == added


def test_what_has_no_cursor_yet_waits_unless_it_is_a_thousand_values() -> None:
    gathered = Gathered(holds=True)
    for n in range(999):
        gathered.add([entry(n)])
    assert gathered.take(1000) is None

    gathered.add([entry(999)])

    portion = gathered.take(1000)
    assert portion is not None
    assert (len(portion.entries), portion.cursor) == (1000, None)


def test_a_portion_is_cut_by_bytes_and_what_one_value_became_stays_together() -> None:
    gathered = Gathered(holds=False)
    for n in range(4):
        gathered.add([entry(n, 1_500_000), entry(n, 1_500_000)])

    portions = [gathered.take(1000), gathered.take(1000), gathered.take(1000)]

    assert [portion and len(portion.entries) for portion in portions] == [4, 4, None]


@given(st.lists(st.integers(1, 40), max_size=1200), st.booleans())
def test_what_is_full_can_be_taken_so_that_whoever_waits_for_room_does_not_wait_for_ever(
    sizes: list[int], holds: bool
) -> None:
    gathered = Gathered(holds=holds, most_bytes=20)
    for n, size in enumerate(sizes):
        gathered.add([entry(n, size)])
        if gathered.is_full:
            assert gathered.take(1000) is not None
