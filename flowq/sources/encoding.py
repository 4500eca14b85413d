"""Text encodings: which one a file has, where lines end in its bytes, and how a line is decoded."""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import PurePath

_ASCII = "\r\n\t ,;|\"'09azAZ"
_LINES = {
    "\r\n": re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+"),
    "\n": re.compile(r"[^\n]*\n|[^\n]+"),
}
_NATIVE = "le" if sys.byteorder == "little" else "be"
_MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-32-le": codecs.BOM_UTF32_LE,  # before UTF-16, whose mark it begins with
    "utf-32-be": codecs.BOM_UTF32_BE,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
}
_FIRST_BYTES = bytes({mark[0] for mark in _MARKS.values()})
_UNITS = {"utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}

BOM = "\ufeff"


class TextEncoding:
    """One encoding. Raises LookupError for a name that is unknown, or not an encoding of text.

    `ends`: the characters that end a line, "\\r\\n" also as a pair, or only "\\n".

    >>> [line.decode("utf-16-le") for line in TextEncoding("utf-16-le").split("a\\rb\\nc".encode("utf-16-le"))]
    ['a\\r', 'b\\n', 'c']
    """

    def __init__(self, name: str, ends: str = "\r\n") -> None:
        known = codecs.lookup(name)
        self.name = "utf-8" if known.name == "utf-8-sig" else known.name
        if not getattr(known, "_is_text_encoding", True):
            raise LookupError(f"{name} is not an encoding of text")
        self.ends = ends
        self.unit = _UNITS.get(self.name, 1)
        self.split: Callable[[bytes], list[bytes]] = partial(_split_decoded, self.name, _LINES[ends])
        if self.unit == 1 and not self._needs_mark:
            if _ASCII.encode(self.name) == _ASCII.encode("ascii"):
                self.split = _split_at_line_feeds if ends == "\n" else partial(bytes.splitlines, keepends=True)
            elif len(bytes(range(256)).decode(self.name, "replace")) != 256:  # characters of one byte, as in EBCDIC
                raise LookupError(f"the lines of {name} cannot be told apart")
        self._line_ends = tuple(end.encode(self.name) for end in ends)
        self._first_half = ends[0].encode(self.name) if len(ends) > 1 else None

    @property
    def _needs_mark(self) -> bool:
        """Whether only the first bytes of a file say in which order those of a character are."""
        return self.name in ("utf-16", "utf-32")

    def meant_by(self, peek: Callable[[int], bytes]) -> TextEncoding:
        """The encoding of a file: that of its byte order mark, else this one.

        `peek` returns that number of its first bytes, and may have to wait for them. UTF-16 and UTF-32 without a mark
        are in the byte order of this machine.
        """
        start = peek(1)
        if start and start[0] in _FIRST_BYTES:
            start = peek(4)
        name = next((name for name, mark in _MARKS.items() if start.startswith(mark)), "")
        if not name:
            name = f"{self.name}-{_NATIVE}" if self._needs_mark else self.name
        return self if name == self.name else TextEncoding(name, self.ends)

    def ends_line(self, piece: bytes) -> bool:
        return piece.endswith(self._line_ends)

    def ends_within_line_end(self, piece: bytes) -> bool:
        """Whether the next byte may still belong to the end of this line."""
        return len(piece) % self.unit != 0 or (self._first_half is not None and piece.endswith(self._first_half))

    def text(self, line: bytes, number: int) -> str:
        """The text of a line. Raises UnicodeDecodeError."""
        text = line.decode(self.name)
        return text.removeprefix(BOM) if number == 1 else text


class DeclaredEncodings:
    """The encodings that a user declares: one name, or names by patterns of files. The first pattern that fits counts.

    Raises LookupError for an encoding that cannot be used, ValueError for a pattern that fits no file.

    >>> declared = DeclaredEncodings({"old/*.csv": "cp1252"}, otherwise="utf-8")
    >>> declared.of("data/old/1.csv").name, declared.of("data/new/1.csv").name
    ('cp1252', 'utf-8')
    """

    def __init__(self, names: str | Mapping[str, str], *, otherwise: str, ends: str = "\r\n") -> None:
        by_pattern = {"*": names} if isinstance(names, str) else {**names, "*": names.get("*", otherwise)}
        self._by_pattern = {pattern: TextEncoding(name, ends) for pattern, name in by_pattern.items()}
        for pattern in by_pattern:
            PurePath("file").match(pattern)

    def of(self, file: str) -> TextEncoding:
        """The encoding declared for a file."""
        path = PurePath(file)
        return next(encoding for pattern, encoding in self._by_pattern.items() if path.match(pattern))


def _split_at_line_feeds(data: bytes) -> list[bytes]:
    if b"\r" not in data:
        return data.splitlines(keepends=True)
    *whole, rest = data.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


def _split_decoded(name: str, lines: re.Pattern[str], data: bytes) -> list[bytes]:
    """The lines of text in an encoding where single bytes mean little. Undecodable bytes stay in place."""
    pieces: list[bytes] = []
    at = 0
    for line in lines.findall(_roughly(name, data)):
        end = at + len(line.encode(name, "surrogatepass"))
        pieces.append(data[at:end])
        at = end
    if at < len(data):
        pieces.append(data[at:])
    return pieces


def _roughly(name: str, data: bytes) -> str:
    """Text in which each character has as many bytes as in the data."""
    try:
        return data.decode(name, "surrogatepass")
    except UnicodeDecodeError:
        return data.decode(name, "replace")


JSON_LINES = TextEncoding("utf-8", ends="\n")
"""Lines of NDJSON: only a line feed ends them."""
