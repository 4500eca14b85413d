"""The lines of a stream of bytes, with the place of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import BinaryIO
from zlib import crc32

from flowq.sources.position import HEAD_BYTES, Position

_SKIP_BYTES = 1 << 20


class Lines:
    """Lines from the beginning of a stream. `offset` and `number` are behind the one given last, from 0.

    Given an earlier position, `is_same` tells whether the stream begins as the one did that it was in.
    """

    def __init__(self, stream: BinaryIO, earlier: Position | None = None) -> None:
        self.offset = 0
        self.number = 0
        self.is_same = False
        self._stream = stream
        self._head = b""
        self._read_line: Callable[[], bytes] = stream.readline
        if earlier is not None:
            head = stream.read(earlier.head_bytes)
            self.is_same = earlier.is_in(head)
            if stream.seekable():
                stream.seek(0)
            else:
                self._head_again = BytesIO(head)
                self._read_line = self._read_line_again

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self._read_line()
        if not line:
            raise StopIteration
        if len(self._head) < HEAD_BYTES:
            self._head = (self._head + line)[:HEAD_BYTES]
        self.offset += len(line)
        self.number += 1
        return line

    def _read_line_again(self) -> bytes:
        """A line of a stream that cannot go back, whose first bytes have been read."""
        line = self._head_again.readline()
        return line if line.endswith(b"\n") else line + self._stream.readline()

    def skip_to(self, position: Position) -> bool:
        """Go to a later position. False if the stream ends before it."""
        reaches = self._seek(position.offset) if self._stream.seekable() else self._read_over(position.offset)
        self.offset, self.number = position.offset, position.line
        return reaches

    def _seek(self, offset: int) -> bool:
        self._stream.seek(0)
        self._head = self._stream.read(HEAD_BYTES)[:offset]
        self._stream.seek(offset - 1)  # a seek alone passes the end of a plain file without a word
        return len(self._stream.read(1)) == 1

    def _read_over(self, offset: int) -> bool:
        while (left := offset - self.offset) > 0:
            data = self._head_again.read(left) or self._stream.read(min(left, _SKIP_BYTES))
            if not data:
                return False
            self._head = (self._head + data)[:HEAD_BYTES]
            self.offset += len(data)
        return True

    def position(self, size: int = 0) -> Position:
        """Where this is now."""
        return Position(self.offset, self.number, crc32(self._head), size)
