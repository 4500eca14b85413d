"""References to bodies elsewhere: nothing else is taken for one, and headers keep their meaning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.delivery.message import Arrival, Delivery, Header
from flowq.errors import BodyElsewhere, BodyLost
from flowq.large_bodies.reference import Reference, claimed_header, is_claimed, redeemed, stored_bytes

PATH = "ab/0123456789abcdef0123456789abcd"


def test_a_reference_comes_out_as_it_went_in() -> None:
    assert Reference.decode(Reference(PATH, 50_000_000).encode()) == Reference(PATH, 50_000_000)


def nearly_references() -> st.SearchStrategy[bytes]:
    folder, name = st.text("af/.0", min_size=2, max_size=3), st.text("0af/.", min_size=29, max_size=31)
    size, end = st.text("09-", min_size=1, max_size=4), st.sampled_from(["", "\n", "x"])
    return st.builds("{}/{} {}{}".format, folder, name, size, end).map(str.encode)


@given(st.binary(max_size=60) | nearly_references())
def test_what_is_taken_for_a_reference_names_a_file_within_the_folder(raw: bytes) -> None:
    try:
        reference = Reference.decode(raw)
    except BodyLost:
        return
    folder, name = reference.path.split("/")
    assert set(folder + name) <= set("0123456789abcdef")
    assert (len(folder), len(name)) == (2, 30)


@pytest.mark.parametrize("packing", ["", "zstd", "zlib"])
def test_a_header_says_where_the_body_lies_and_still_how_it_is_compressed(packing: str) -> None:
    header = Header("m", "r", "p", 3, attempt=2, type_tag="Page", packing=packing)
    claimed = Header.decode(claimed_header(header.encode()))

    assert claimed.packing == (f"file+{packing}" if packing else "file")
    assert is_claimed(claimed.encode())
    assert not is_claimed(header.encode())
    delivery = Delivery(Arrival(">a", "w", 7), b"1-0", claimed.encode(), Reference(PATH, 9).encode())
    assert (redeemed(delivery, b"x").header, redeemed(delivery, b"x").arrival.epoch) == (header, 7)
    assert Header.decode(claimed.replayed().encode()).packing == claimed.packing


def test_a_delivery_whose_body_lies_elsewhere_has_no_content_but_its_size_there() -> None:
    delivery = Delivery(Arrival(">a", "w", 0), b"1-0", b"m - - 0 e=file", Reference(PATH, 123_456).encode())

    assert stored_bytes(delivery) == 123_456
    with pytest.raises(BodyElsewhere):
        _ = delivery.content
