"""Entries that are read together become the same rows as each by itself: foreign if no header can be decoded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowq.broker.records import rows_of
from flowq.delivery.message import GARBLED, MISSING, Arrival, Header, Row

ARRIVAL = Arrival("a>b", "w", 3)
WORDS = st.lists(st.sampled_from([b"b7", b"-", b"x=1", "ä".encode(), b"y" * 1001]), min_size=3, max_size=3)
HOPS = st.sampled_from([0, 7, 10**14, 10**15])
MORE = st.lists(st.sampled_from([b"t=Doc", b"w=00-0af7-01", b"a=2", b"t=", b"z"]), max_size=3)
# What separates words and lines where it should not, or one byte too few.
PIECES = st.sampled_from([b"", b" ", b"  ", b"\n", b"\n- - 0", b" 1\nc d e", b"\x00", b"\xff", b"\x7f", b"\t"])
Fields = list[bytes] | None


@st.composite
def ours(draw: st.DrawFn) -> bytes:
    """A header as flowq writes it, or nearly."""
    return b" ".join((*draw(WORDS), b"%d" % draw(HOPS), *draw(MORE)))


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    header, at, piece = draw(ours()), draw(st.integers(0, 20)), draw(PIECES)
    return header[:at] + piece + header[at + (len(piece) == 1) :]


@st.composite
def fields(draw: st.DrawFn) -> Fields:
    """The fields of an entry; most often those of a message."""
    header = draw(st.one_of(ours(), spoiled(), st.binary(max_size=8)))
    ordinary: Fields = [b"h", header, b"b", b"{}"]
    others: list[Fields] = [
        [b"g", header, b"b", b"{}"], [b"b", b"{}", b"h", header], [*ordinary, b"c", b""], [b"b", b"{}"], None
    ]  # fmt: skip
    return draw(st.sampled_from([ordinary] * 5 + others))


def expected(entry_id: bytes, given: Fields) -> Row:
    """By decoding each header."""
    if given is None:
        return ARRIVAL, entry_id, MISSING, b"", None
    values = dict(zip(given[::2], given[1::2], strict=True))
    header = values.get(b"h", b"")
    try:
        Header.decode(header)
    except ValueError:
        words = header.split(None, 4)
        claims_it = len(words) > 3 and header.startswith(b" ".join(words[:4])) and words[3].isdigit()
        rest = header[len(b" ".join(words[:4])) :] if claims_it else b"?"
        looks_like_ours = rest in (b"", b"\n") or rest.startswith(b" ")
        return ARRIVAL, entry_id, GARBLED if looks_like_ours else b"", values.get(b"b", b""), values
    return ARRIVAL, entry_id, header, values.get(b"b", b""), None


@given(st.lists(fields(), max_size=6), st.sampled_from([(), (None,)]))
def test_rows_read_together_are_those_of_each_entry(entries: list[Fields], gone: tuple[None, ...]) -> None:
    read = [(b"%d-0" % n, each) for n, each in enumerate(entries)]

    rows = rows_of(ARRIVAL, [*read, *gone])

    assert rows == [expected(*entry) for entry in read]


@given(st.lists(ours(), min_size=1, max_size=6))
def test_headers_that_are_all_ours_become_rows_as_they_are(written: list[bytes]) -> None:
    rows = rows_of(ARRIVAL, [(b"%d-0" % n, [b"h", header, b"b", b"{}"]) for n, header in enumerate(written)])

    assert [row[2:] for row in rows if row[4] is None] == [
        (header, b"{}", None) for header in written if int(header.split(b" ")[3]) < 10**15
    ]
