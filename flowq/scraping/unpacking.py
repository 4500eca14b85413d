"""Decompresses HTTP bodies, in pieces of bounded size, and detects incomplete ones. Pure."""

from __future__ import annotations

import sys
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Protocol

import brotli  # pyright: ignore[reportMissingTypeStubs]

from flowq.scraping.failures import BrokenBody

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ACCEPT_ENCODING = "gzip, deflate, br, zstd"
_PIECE_BYTES = 1 << 18
_GZIP = b"\x1f\x8b"
_MOST_STAGES = 5  # as in curl
_BROTLI: Any = brotli  # it has no types
_ERRORS: tuple[type[Exception], ...] = (zlib.error, _BROTLI.error, zstd.ZstdError, EOFError)


class TooLarge(Exception):
    """A body above the limit, when decompressed."""


class _Decompressor(Protocol):
    """One stage of decompression: yields pieces of bounded size, whatever goes in."""

    def unpack(self, data: bytes) -> Iterator[bytes]: ...

    @property
    def is_whole(self) -> bool: ...


class Unpacker:
    """Undoes the Content-Encoding of one body, piece by piece.

    Unknown encodings are ignored, as in browsers. Raises BrokenBody for more than five nested encodings.
    """

    def __init__(self, content_encoding: str, *, max_bytes: int) -> None:
        names = [name.strip().lower() for name in content_encoding.split(",")]
        names = [name for name in names if name in _DECOMPRESSORS]
        if len(names) > _MOST_STAGES:
            raise BrokenBody(f"the body is compressed {len(names)} times")
        self._stages = [_DECOMPRESSORS[name]() for name in reversed(names)]
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._is_empty = True

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """The decompressed pieces of the next data. Raises BrokenBody and TooLarge."""
        self._is_empty = self._is_empty and not data
        pieces: Iterable[bytes] = (data,)
        for stage in self._stages:
            pieces = _through(stage, pieces)
        try:
            for piece in pieces:
                self._n_bytes += len(piece)
                if self._n_bytes > self._max_bytes:
                    raise TooLarge(f"the body is larger than {self._max_bytes:,} bytes")
                yield piece
        except _ERRORS as error:
            raise BrokenBody(f"the body cannot be decompressed: {error}") from error

    def finish(self) -> None:
        """Note the end of the data. Raises BrokenBody if it is incomplete."""
        if not self._is_empty and not all(stage.is_whole for stage in self._stages):
            raise BrokenBody("the body ends too early: its compressed data is incomplete")


async def unpacked_file(pieces: AsyncIterator[bytes], content_encoding: str, *, max_bytes: int) -> AsyncIterator[bytes]:
    """The content of a file, whether its transfer is compressed, or the file itself, or both.

    Raises BrokenBody and TooLarge.
    """
    way, file, start = Unpacker(content_encoding, max_bytes=max_bytes), None, b""
    async for data in pieces:
        for piece in way.unpack(data):
            start += piece
            if file is None and len(start) >= len(_GZIP):
                file = Unpacker("gzip" if start.startswith(_GZIP) else "", max_bytes=max_bytes)
            if file is not None:
                for content in file.unpack(start):
                    yield content
                start = b""
    way.finish()
    if file is not None:
        file.finish()
    yield start


def _through(stage: _Decompressor, pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from stage.unpack(piece)


class _Inflating:
    """What all stages share: their library tells when the data is complete."""

    _inflate: Any

    @property
    def is_whole(self) -> bool:
        return bool(self._inflate.eof)


class _Gzip(_Inflating):
    """Gzip, of one or several members; data after them is ignored, as in browsers."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def unpack(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inflate.eof:
                if not data.startswith(_GZIP[: len(data)]):
                    return
                self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            if piece := self._inflate.decompress(data, _PIECE_BYTES):
                yield piece
            data = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail


class _Deflate(_Inflating):
    """Deflate with the header of the standard, or without it, as some servers send it."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj()
        self._has_begun = False

    def unpack(self, data: bytes) -> Iterator[bytes]:
        if data and not self._has_begun:
            self._has_begun = True
            # A zlib header is a multiple of 31 with 8 in its low half byte (RFC 1950).
            if len(data) < 2 or data[0] & 0x0F != 8 or (data[0] * 256 + data[1]) % 31 != 0:
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        while data and not self._inflate.eof:
            if piece := self._inflate.decompress(data, _PIECE_BYTES):
                yield piece
            data = self._inflate.unconsumed_tail


class _Brotli:
    def __init__(self) -> None:
        self._inflate: Any = _BROTLI.Decompressor()

    def unpack(self, data: bytes) -> Iterator[bytes]:
        while not self._inflate.is_finished() and (
            piece := self._inflate.process(data, output_buffer_limit=_PIECE_BYTES)
        ):
            yield piece
            data = b""

    @property
    def is_whole(self) -> bool:
        return bool(self._inflate.is_finished())


class _Zstd(_Inflating):
    """Zstandard, of one or several frames (RFC 8878, 3.1); data after them is ignored."""

    def __init__(self) -> None:
        self._inflate = zstd.ZstdDecompressor()

    def unpack(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._inflate.eof:
                data = self._inflate.unused_data or data
                if not data or not _is_zstd(data):
                    return
                self._inflate = zstd.ZstdDecompressor()
            piece = self._inflate.decompress(data, _PIECE_BYTES)
            if piece:
                yield piece
            if not self._inflate.eof and (self._inflate.needs_input or not piece):
                return
            data = b""


def _is_zstd(data: bytes) -> bool:
    """Whether a frame starts here, including skippable ones."""
    magic = b"\x28\xb5\x2f\xfd"
    return data.startswith(magic[: len(data)]) or (
        data[0] & 0xF0 == 0x50 and data[1:4] == b"\x2a\x4d\x18"[: len(data) - 1]
    )


_DECOMPRESSORS: dict[str, type[_Decompressor]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}
