"""Bodies: compressed and truncated in every way, and decoded as browsers do."""

from __future__ import annotations

import gzip
import random
import sys
import zlib
from collections.abc import Callable
from typing import Any

import brotli  # pyright: ignore[reportMissingTypeStubs]
import pytest

from flowq.scraping import BrokenBody
from flowq.scraping.bodies import as_html, decoded, is_html
from flowq.scraping.unpacking import TooLarge, Unpacker

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BROTLI: Any = brotli
TEXT = "".join(random.Random(1).choices("abcdefghij<>", k=300_000)).encode()


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def two_members(data: bytes) -> bytes:
    return gzip.compress(data[:1000]) + gzip.compress(data[1000:])


def with_padding(data: bytes) -> bytes:
    return gzip.compress(data) + b"\0\0\0"


def packed_twice(data: bytes) -> bytes:
    return bytes(BROTLI.compress(gzip.compress(data)))


def several_frames(data: bytes) -> bytes:
    skippable = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"xyz"
    return zstd.compress(data[:1000]) + skippable + zstd.compress(data[1000:]) + b"\0\0"


PACKED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("gzip", two_members),
    ("gzip", with_padding),
    ("deflate", zlib.compress),
    ("deflate", bare_deflate),
    ("br", BROTLI.compress),
    ("zstd", zstd.compress),
    ("zstd", several_frames),
    ("gzip, br", packed_twice),
]
PLAIN = ["", "identity", "utf-8"]  # an unknown encoding counts as none


def unpacked(encoding: str, body: bytes, *, piece: int = 1000, most: int = 10_000_000) -> bytes:
    unpacker = Unpacker(encoding, max_bytes=most)
    found = b"".join(p for at in range(0, len(body), piece) for p in unpacker.unpack(body[at : at + piece]))
    unpacker.finish()
    return found


@pytest.mark.parametrize(("encoding", "pack"), [*PACKED, ("X-Gzip", gzip.compress), *((name, bytes) for name in PLAIN)])
@pytest.mark.parametrize("piece", [7, 1000, 1_000_000])
def test_a_whole_body_comes_out_as_it_went_in(encoding: str, pack: Callable[[bytes], bytes], piece: int) -> None:
    text = TEXT[:20_000] if piece == 7 else TEXT
    assert unpacked(encoding, pack(text), piece=piece) == text


@pytest.mark.parametrize(("encoding", "pack"), PACKED)
def test_a_body_cut_anywhere_is_an_error_and_never_half_a_page(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    text = TEXT[:3000]
    body = pack(text)
    for length in [1, 2, 5, 11, *range(20, len(body), 97)]:
        try:
            found = unpacked(encoding, body[:length])
        except BrokenBody:
            continue
        assert found in (text, text[:1000]), f"cut at {length}"  # between two members, or behind the last


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_is_not_packed_as_it_says_is_broken(encoding: str) -> None:
    with pytest.raises(BrokenBody):
        unpacked(encoding, b"<html>not packed at all</html>")


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate"])
def test_an_empty_body_is_whole(encoding: str) -> None:
    assert unpacked(encoding, b"") == b""


@pytest.mark.parametrize(("encoding", "pack"), PACKED)
def test_a_bomb_is_given_up_at_the_limit_in_small_pieces(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(b"\0" * 50_000_000)
    sizes = list[int]()
    with pytest.raises(TooLarge):
        sizes.extend(len(piece) for piece in Unpacker(encoding, max_bytes=5_000_000).unpack(bomb))
    assert sum(sizes) <= 5_000_000
    assert max(sizes, default=0) <= 2_000_000


# Text


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/html", "Zürich".encode(), "Zürich"),
        ("text/html; charset=utf-8", "Zürich".encode(), "Zürich"),
        ('Text/HTML; Charset="UTF-8"', "Zürich".encode(), "Zürich"),
        ("text/html; charset=iso-8859-1", b"Z\xfcrich \x80", "Zürich €"),  # windows-1252, by the Encoding Standard
        ("text/html; charset=us-ascii", b"Z\xfcrich", "Zürich"),
        ("text/html; charset=gb2312", "漢字镕".encode("gbk"), "漢字镕"),
        ("text/html; charset=shift_jis", "①漢字".encode("cp932"), "①漢字"),
        ("text/html; charset=ks_c_5601-1987", "똠".encode("cp949"), "똠"),
        ("text/html; charset=koi8-r", "Привет".encode("koi8-r"), "Привет"),
        ("text/html; charset=utf-16", "Zürich".encode("utf-16-le"), "Zürich"),
        ("text/html", "Zürich".encode("utf-16"), "Zürich"),
        ("text/html; charset=iso-8859-1", b"\xef\xbb\xbf" + "Zürich".encode(), "Zürich"),
        ("text/html", b"<meta charset=iso-8859-15>Z\xfcrich \xa4", "<meta charset=iso-8859-15>Zürich €"),
        (
            "",
            b'<meta http-equiv="Content-Type" content="text/html; charset=windows-1251">\xcf',
            '<meta http-equiv="Content-Type" content="text/html; charset=windows-1251">П',
        ),
        ("text/html", "<meta charset=utf-16>Zürich".encode(), "<meta charset=utf-16>Zürich"),
        ("text/html; charset=utf-8", b"<meta charset=koi8-r>\xc3\xbc", "<meta charset=koi8-r>ü"),
        *(
            (f"text/html; charset={label}", "Zürich".encode(), "Zürich")
            for label in ("undefined", "idna", "hex", "rot13", "unicode_escape", "utf-7", "none", "x" * 500, "", "\x00")
        ),
        ("text/html", b"<meta charset=undefined>\xc3\xbc", "<meta charset=undefined>ü"),
        ("text/html", b"\xff\xfe", ""),
        ("text/html", b"a\xffb", "a\ufffdb"),
    ],
)
def test_a_page_is_decoded_as_a_browser_would(content_type: str, body: bytes, text: str) -> None:
    assert decoded(body, content_type)[0] == text


@pytest.mark.parametrize(
    ("content_type", "body", "is_page"),
    [
        ("text/html", b"anything", True),
        ("TEXT/HTML;charset=x", b"<p>", True),
        ("application/xhtml+xml", b"<?xml version='1.0'?><html/>", True),
        ("text/html, text/html", b"<p>", True),
        ("", b"  <!doctype html><p>", True),
        ("", b"<html>", True),
        ("html", b"<HEAD>", True),
        ("unknown/unknown", b"<body>", True),
        ("", "<html>".encode("utf-16"), True),
        ("", b"\xef\xbb\xbf<html>", True),
        ("text/html", b"", True),
        ("", b"", False),
        ("", b"just text", False),
        ("", b"\x89PNG\r\n\x1a\n\0\0", False),
        ("text/html", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", False),
        ("text/html", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", False),
        ("text/html", b"PK\x03\x04\x14\0\0\0", False),
        ("text/html", b"GIF89a\x01\0", False),
        ("text/plain", b"<html>", False),
        ("application/json", b"{}", False),
        ("image/png", b"<html>", False),
    ],
)
def test_a_body_is_a_page_by_its_type_or_where_that_is_missing_or_wrong_by_its_start(
    content_type: str, body: bytes, is_page: bool
) -> None:
    assert is_html(content_type, body) is is_page


def test_a_body_that_is_packed_over_and_over_is_refused() -> None:
    with pytest.raises(BrokenBody, match="9 times"):
        Unpacker(", ".join(["gzip"] * 9), max_bytes=1_000)
    Unpacker(", ".join(["identity"] * 9), max_bytes=1_000)


def test_self_closing_elements_of_xhtml_do_not_extend_to_the_end() -> None:
    text = "<script src='x'/><title>T</title><a name='x' /><br/><img src='y'/><p>a / b > c</p>"
    told = "<script src='x'></script><title>T</title><a name='x' ></a><br/><img src='y'/><p>a / b > c</p>"
    assert as_html(text, "Application/XHTML+XML; charset=utf-8") == told
    assert as_html(text, "text/html") == text
