"""The lines of a stream of bytes, with their positions, in bounded memory."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any
from zlib import crc32

from flowq.sources.encoding import JSON_LINES, TextEncoding
from flowq.sources.position import HEAD_BYTES, Position

_READ_BYTES = 1 << 18


class Lines:
    """Lines from the beginning of a stream. `offset` and `number` are at the end of the line yielded last, from 0.

    Of a line above `longest` bytes only the beginning is yielded, and `is_cut` is true until the next one.
    """

    def __init__(self, stream: Any, encoding: TextEncoding = JSON_LINES, *, longest: int) -> None:
        self.offset = 0
        self.number = 0
        self.is_cut = False
        self.longest = longest
        self.row_start: Position | None = None  # set by the reader of rows of several lines
        self._stream = stream
        self.encoding = encoding
        self._pushed = b""  # read, and to be read again
        self._pieces: list[bytes] = []
        self._at = 0  # index of the next one to yield
        self._summed = 0  # how many of them are in the checksum
        self._later: list[bytes] = []  # whole lines after one that is cut
        self._tail: list[bytes] = []  # the beginning of a line whose end has not been read
        self._content = 0
        self._content_after_cut = 0
        self._skipped = 0
        self._head = b""

    def peek(self, n: int) -> bytes:
        """The first bytes of the stream, before any line is read. Waits until there are `n`."""
        self._pushed += self._taken_in(self._stream.read(n - len(self._pushed)))
        return self._pushed

    @property
    def needs_to_read(self) -> bool:
        """Whether the next line has not been read yet."""
        return self._at == len(self._pieces) and not self._later

    # Yielding

    def __iter__(self) -> Generator[bytes]:
        while self._at < len(self._pieces) or self._refill():
            pieces, longest = self._pieces, self.longest
            while self._pieces is pieces and (at := self._at) < len(pieces):
                line = pieces[at]
                self._at = at + 1
                self.offset += len(line)
                self.number += 1
                yield line if len(line) <= longest else self._beginning_of(line)

    def _beginning_of(self, line: bytes) -> bytes:
        self.is_cut = True
        self.offset += self._skipped
        return line[: self.longest]

    def _refill(self) -> bool:
        """Read until there is a whole line, or the end. False at the end."""
        self._sum_up()
        self.is_cut, self._skipped = False, 0
        if self._later:
            lines, self._later = self._later, []
            self._set_apart_the_too_long(lines)
            return True
        n = sum(map(len, self._tail))
        while data := self._read():
            lines = self.encoding.split(data)
            unfinished = [] if self.encoding.ends_line(lines[-1]) else [lines.pop()]
            if not lines:
                self._tail += unfinished
                n += len(data)
                if n > self.longest:
                    return self._cut()
                continue
            lines[0] = b"".join([*self._tail, lines[0]])
            self._tail = unfinished
            self._set_apart_the_too_long(lines)
            return True
        rest, self._tail = b"".join(self._tail), []
        self._set([rest] if rest else [])
        return bool(rest)

    def _set(self, lines: list[bytes]) -> None:
        self._pieces, self._at, self._summed = lines, 0, 0

    def _set_apart_the_too_long(self, lines: list[bytes]) -> None:
        """A line that is yielded cut must be the only one, because the checksum covers only what was yielded."""
        if max(map(len, lines)) <= self.longest:
            self._set(lines)
            return
        first = next(i for i, line in enumerate(lines) if len(line) > self.longest)
        n = first or 1
        self._set(lines[:n])
        self._later = lines[n:]
        if not first:
            self._content_after_cut = crc32(lines[0], self._content)

    def _cut(self) -> bool:
        """Keep the beginning of a line that is too long, and skip the rest of it."""
        line, self._tail = b"".join(self._tail), []
        content = crc32(line, self._content)
        while data := self._read():
            lines = self.encoding.split(data)
            if self.encoding.ends_line(lines[0]):
                self._later = lines[1:]
                if self._later and not self.encoding.ends_line(self._later[-1]):
                    self._tail = [self._later.pop()]
                data = lines[0]
            content = crc32(data, content)
            self._skipped += len(data)
            if self.encoding.ends_line(data):
                break
        self._content_after_cut = content
        self._set([line])
        return True

    def _read(self) -> bytes:
        """More of the stream, as soon as there is some, and never half a character or half a line end."""
        if self._pushed:
            data, self._pushed = self._pushed, b""
        else:
            data = self._taken_in(self._stream.read1(_READ_BYTES))
        while data and self.encoding.ends_within_line_end(data) and (more := self._taken_in(self._stream.read1(1))):
            data += more
        return data

    def _taken_in(self, data: bytes) -> bytes:
        if len(self._head) < HEAD_BYTES:
            self._head = (self._head + data)[:HEAD_BYTES]
        return data

    # Positions

    def position(self) -> Position:
        """The current position."""
        self._sum_up()
        return self._position(self.offset, self.number)

    def position_before(self) -> Position:
        """The position before the line yielded last, if `position` has not been called since."""
        n = self._skipped if self.is_cut else 0
        before = self._at - 1
        self._content = crc32(b"".join(self._pieces[self._summed : before]), self._content)
        self._summed = before
        return self._position(self.offset - len(self._pieces[before]) - n, self.number - 1)

    def _position(self, offset: int, number: int) -> Position:
        return Position(offset, number, self._content, crc32(self._head[: min(offset, HEAD_BYTES)]))

    def _sum_up(self) -> None:
        if self.is_cut:
            if self._summed < self._at:
                self._content = self._content_after_cut
        else:
            self._content = crc32(b"".join(self._pieces[self._summed : self._at]), self._content)
        self._summed = self._at

    # Resuming

    def skip_to(self, position: Position) -> bool:
        """Read on to a later position. False if the bytes before it have changed."""
        self._sum_up()
        self._pushed = b"".join([*self._pieces[self._at :], *self._later, *self._tail, self._pushed])
        self._forget_lines()
        while (left := position.offset - self.offset) > 0:
            data = self._pushed or self._taken_in(self._stream.read(min(left, _READ_BYTES)))
            data, self._pushed = data[:left], data[left:]
            if not data:
                return False
            self._content = crc32(data, self._content)
            self.offset += len(data)
        self.number = position.line
        return not left and self._content == position.content

    def _forget_lines(self) -> None:
        self._set([])
        self._later, self._tail, self.is_cut = [], [], False

    def jump_to(self, position: Position) -> None:
        """Seek to a later position of a file that is known to be unchanged."""
        self._sum_up()
        if len(self._head) < position.head_bytes:
            self._stream.seek(0)
            self._head = self._stream.read(HEAD_BYTES)
        self._stream.seek(position.offset)
        self._pushed = b""
        self._forget_lines()
        self.offset, self.number, self._content = position.offset, position.line, position.content
