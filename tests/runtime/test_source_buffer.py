"""Values of a source are published in order, and those between two cursors together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowq.delivery.settlement import Output
from flowq.runtime.sources.source_buffer import SourceBuffer

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
    buffer = SourceBuffer(holds=holds)
    added: list[bytes] = []
    taken: list[bytes] = []
    stored, saves_any = b"0", False

    def take(*, everything: bool = False) -> bool:
        nonlocal stored
        chunk = buffer.take(most, everything=everything)
        if chunk is None:
            return False
        taken.extend(entry.header for entry in chunk.entries if isinstance(entry, Output))
        if chunk.cursor is not None:
            stored = chunk.cursor
        assert len(taken) >= int(stored)
        if holds and saves_any and chunk.cursor is None:
            assert everything
        return True

    for step in steps:
        if step == "add":
            buffer.add([entry(len(added))])
            added.append(b"%d" % len(added))
        elif step == "save":
            saves_any = True
            buffer.save(b"%d" % len(added))
        else:
            take()
    while take(everything=True):
        pass

    assert taken == added


def test_what_has_no_cursor_yet_waits_unless_it_is_a_thousand_values() -> None:
    buffer = SourceBuffer(holds=True)
    for n in range(999):
        buffer.add([entry(n)])
    assert buffer.take(1000) is None

    buffer.add([entry(999)])

    chunk = buffer.take(1000)
    assert chunk is not None
    assert (len(chunk.entries), chunk.cursor) == (1000, None)


def test_a_chunk_is_limited_by_bytes_and_the_outputs_of_one_value_stay_together() -> None:
    buffer = SourceBuffer(holds=False)
    for n in range(4):
        buffer.add([entry(n, 1_500_000), entry(n, 1_500_000)])

    chunks = [buffer.take(1000), buffer.take(1000), buffer.take(1000)]

    assert [chunk and len(chunk.entries) for chunk in chunks] == [4, 4, None]


@given(st.lists(st.integers(1, 40), max_size=1200), st.booleans())
def test_a_full_buffer_can_be_emptied_so_that_no_one_waits_for_room_for_ever(sizes: list[int], holds: bool) -> None:
    buffer = SourceBuffer(holds=holds, most_bytes=20)
    for n, size in enumerate(sizes):
        buffer.add([entry(n, size)])
        if buffer.is_full:
            assert buffer.take(1000) is not None
