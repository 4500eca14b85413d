"""The header of a message survives a round trip, and contains no more than necessary."""

from __future__ import annotations

import pytest

from flowq.delivery.message import Arrival, Delivery, Header, lineage_of, new_header

TABLE = {
    b"b7 - - 0": Header("b7", "b7", "-", 0),
    b"b7 a1 a1 1": Header("b7", "a1", "a1", 1),
    b"b7 a1 a1 1 a=2": Header("b7", "a1", "a1", 1, attempt=2),
    b"b7 a1 a1 1 c=1": Header("b7", "a1", "a1", 1, crashes=1),
    b"b7 a1 a1 1 f=1700000000000": Header("b7", "a1", "a1", 1, first_ms=1_700_000_000_000),
    b"b7 a1 a1 1 t=Doc": Header("b7", "a1", "a1", 1, type_tag="Doc"),
    b"b7 a1 a1 1 e=zstd": Header("b7", "a1", "a1", 1, packing="zstd"),
    b"b7 a1 a1 1 z=new y": Header("b7", "a1", "a1", 1, unknown=("z=new", "y")),
}


@pytest.mark.parametrize("written", TABLE, ids=str)
def test_a_header_is_written_as_it_is_read(written: bytes) -> None:
    assert Header.decode(written) == TABLE[written]
    assert TABLE[written].encode() == written


@pytest.mark.parametrize("tag", [b"", b"Doc"])
def test_a_new_header_is_what_the_whole_one_would_write(tag: bytes) -> None:
    expected = Header("b7", "a1", "a2", 3, type_tag=tag.decode())
    assert Header.decode(new_header(b"b7", b"a1 a2 3", tag)) == expected
    assert new_header(b"b7", b"a1 a2 3", tag) == expected.encode()


def test_a_message_that_enters_is_its_own_root() -> None:
    assert Header.entering("b7") == Header("b7", "b7", "-", 0)


def row_of(header: bytes) -> Delivery:
    return Delivery(Arrival(">a", "w", 0), b"1-1", header, b"{}")


@pytest.mark.parametrize("words", [b"", b" t=Doc", b" a=2 f=1700000000000 t=Doc w=00-0af7-b7ad-01 z=new y"])
@pytest.mark.parametrize(
    ("header", "lineage"),
    [
        (b"b7 - - 0", b"b7 b7 1"),
        (b"b7 a1 a2 1", b"a1 b7 2"),
        (b"b7 a1 a2 99", b"a1 b7 100"),
        (b"b7 a1 a2 100", b"a1 b7 101"),
    ],
)
def test_what_a_handler_emits_has_its_message_as_parent_whatever_words_its_header_has(
    header: bytes, lineage: bytes, words: bytes
) -> None:
    assert lineage_of(row_of(header + words)) == lineage


def test_the_lineage_of_a_header_with_further_words_is_read_without_decoding_it() -> None:
    not_utf8 = b" z=\xff"  # what decodes it takes it for a header of another program

    assert lineage_of(row_of(b"b7 a1 a2 1 t=Doc" + not_utf8)) == b"a1 b7 2"


def test_an_entry_of_another_program_is_the_root_of_what_is_emitted_for_it() -> None:
    for header in (b"", b" t=", b"order 42"):
        assert lineage_of(row_of(header)) == b">a:1-1 >a:1-1 1"
