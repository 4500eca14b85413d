"""Text encodings: where lines end in the bytes, and how a line is decoded."""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Callable
from functools import partial

_ASCII = "\r\n\t ,;|\"'09azAZ"
_LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_NATIVE = "le" if sys.byteorder == "little" else "be"
_BOMS = {
    "utf-16": {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"},
    "utf-32": {codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be"},
}
_UNITS = {"utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}

BOM = "\ufeff"


class TextEncoding:
    """One encoding. Raises LookupError for a name that is unknown, or not an encoding of text.

    >>> [line.decode("utf-16-le") for line in TextEncoding("utf-16-le").split("a\\rb\\nc".encode("utf-16-le"))]
    ['a\\r', 'b\\n', 'c']
    """

    def __init__(self, name: str) -> None:
        known = codecs.lookup(name)
        self.name = "utf-8" if known.name == "utf-8-sig" else known.name
        if not getattr(known, "_is_text_encoding", True):
            raise LookupError(f"{name} is not an encoding of text")
        self.unit = _UNITS.get(self.name, 1)
        self.split: Callable[[bytes], list[bytes]] = partial(_split_decoded, self.name)
        if self.unit == 1 and self.name not in _BOMS:
            if _ASCII.encode(self.name) == _ASCII.encode("ascii"):
                self.split = partial(bytes.splitlines, keepends=True)
            elif len(bytes(range(256)).decode(self.name, "replace")) != 256:  # characters of one byte, as in EBCDIC
                raise LookupError(f"the lines of {name} cannot be told apart")
        self._line_ends = tuple(end.encode(self.name) for end in ("\n", "\r"))

    @property
    def depends_on_the_beginning(self) -> bool:
        """Whether the first bytes of a file decide which encoding it has."""
        return self.name in _BOMS

    def meant_by(self, start: bytes) -> TextEncoding:
        """The encoding of a file that starts with these bytes. Without a mark, the byte order is this machine's."""
        if not self.depends_on_the_beginning:
            return self
        for bom, name in _BOMS[self.name].items():
            if start.startswith(bom):
                return TextEncoding(name)
        return TextEncoding(f"{self.name}-{_NATIVE}")

    def ends_line(self, piece: bytes) -> bool:
        return piece.endswith(self._line_ends)

    def ends_within_line_end(self, piece: bytes) -> bool:
        """Whether the next byte may still belong to the end of this line."""
        return len(piece) % self.unit != 0 or piece.endswith(self._line_ends[1])

    def text(self, line: bytes, number: int) -> str:
        """The text of a line. Raises UnicodeDecodeError."""
        text = line.decode(self.name)
        return text.removeprefix(BOM) if number == 1 else text


class JsonLines:
    """Lines of NDJSON: UTF-8, and only a line feed ends them."""

    unit = 1

    def split(self, data: bytes) -> list[bytes]:
        if b"\r" not in data:
            return data.splitlines(keepends=True)
        *whole, rest = data.split(b"\n")
        return [line + b"\n" for line in whole] + ([rest] if rest else [])

    def ends_line(self, piece: bytes) -> bool:
        return piece.endswith(b"\n")

    def ends_within_line_end(self, piece: bytes) -> bool:
        return False


LineEnds = TextEncoding | JsonLines


def encoding_by_mark(start: bytes) -> str:
    """The encoding whose byte order mark a file starts with, "" if it may be UTF-8."""
    # UTF-32 first: its mark begins with that of UTF-16.
    return next((name for name in ("utf-32", "utf-16") if start.startswith(tuple(_BOMS[name]))), "")


def _split_decoded(name: str, data: bytes) -> list[bytes]:
    """The lines of text in an encoding where single bytes mean little. Undecodable bytes stay in place."""
    pieces: list[bytes] = []
    at = 0
    for line in _LINES.findall(_roughly(name, data)):
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
