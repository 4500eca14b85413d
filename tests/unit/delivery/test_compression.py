"""Compression: data survives the round trip, and hostile input is only refused."""

from __future__ import annotations

import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.delivery.encoding.compression import packed, unpacked
from flowq.delivery.message import Arrival, Delivery, Header
from flowq.errors import DecodeError


@given(st.binary(max_size=300).map(lambda part: part * 20))
def test_a_body_comes_out_as_it_went_in_and_never_larger(body: bytes) -> None:
    smaller, how = packed(body)

    assert len(smaller) <= len(body)
    assert (unpacked(smaller, how) if how else smaller) == body


@pytest.mark.parametrize("how", ["zlib", "zstd"])
@given(body=st.binary(max_size=100))
def test_damaged_data_is_refused_and_nothing_else_happens(how: str, body: bytes) -> None:
    with pytest.raises(DecodeError):
        unpacked(body, how)


@pytest.mark.parametrize("cut", [1, 4, 20])
def test_data_whose_end_is_missing_is_refused(cut: int) -> None:
    smaller, how = packed(b"".join(b"%d " % n for n in range(1000)))

    with pytest.raises(DecodeError, match="damaged"):
        unpacked(smaller[:-cut], how)


def test_a_way_that_is_not_known_is_refused() -> None:
    with pytest.raises(DecodeError, match="compressed with lzma2"):
        unpacked(b"x", "lzma2")


def test_without_zstd_bodies_are_compressed_by_zlib_which_every_python_reads() -> None:
    program = """
import sys
sys.modules["backports.zstd"] = sys.modules["compression.zstd"] = None
from flowq.delivery.encoding.compression import packed
body, how = packed(b"x" * 10_000)
sys.stdout.buffer.write(how.encode() + b" " + body)
"""
    how, _, body = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.partition(
        b" "
    )

    assert how == b"zlib"
    assert unpacked(body, "zlib") == zlib.decompress(body) == b"x" * 10_000


def test_the_header_tells_how_and_keeps_telling_it_over_retries_and_replays() -> None:
    header = Header("m", "m", "-", 0, packing="zlib")
    delivery = Delivery(Arrival(">a", "w", 0), b"1-0", header.encode(), zlib.compress(b"body"))

    assert delivery.content == b"body"
    assert Header.decode(delivery.retried(counted=True).encode()).packing == "zlib"
    assert header.replayed().packing == "zlib"
