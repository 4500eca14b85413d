"""What stands in `heads` and `inbox` of a shard, to which any program can write."""

from __future__ import annotations

from flowq.broker.shards.channel import EntryId, Mark, marks_in

JUNK = [
    b"epoch",
    b"7",
    b"layout",
    b"4",
    b"x",
    b"1-1 1",
    b"99",
    b"1-1 1",
    b"9" * 5000,
    b"1-1 1",
    b"1",
    b"\xff",
    b"2",
    b"",
    b"0",
    b"9999999999999999-1 1",
]


def test_fields_that_name_no_shard_are_left_out_and_values_that_are_no_position_are_the_beginning() -> None:
    beginning = Mark(EntryId(0, 0), 0)
    assert marks_in([*JUNK, b"3", b"12-4 9"], 4) == {
        0: beginning,
        1: beginning,
        2: beginning,
        3: Mark(EntryId(12, 4), 9),
    }
