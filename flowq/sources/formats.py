"""What the rows of a file are: NDJSON or CSV, each a value of the type asked for, or not valid."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, ClassVar, Protocol

import orjson

from flowq.delivery.codec import decoder, strings_decoder
from flowq.errors import DecodeError
from flowq.sources.lines import Lines

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is not valid. `body` is what a stage may still make a message of, `line` the row as it was read."""

    body: bytes
    line: bytes
    number: int
    error: DecodeError


class Format(Protocol):
    """A kind of file."""

    called: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    def columns(self, lines: Lines) -> Sequence[str]:
        """Reads what stands before the rows."""
        ...

    def rows(self, lines: Lines, columns: Sequence[str]) -> Iterator[Any]:
        """The rows from here on, as values or as BadRow. After each, `lines` is just behind it."""
        ...


class Ndjson:
    """One JSON value a line."""

    called: ClassVar[str] = "NDJSON"
    suffixes: ClassVar[tuple[str, ...]] = (".ndjson", ".jsonl")

    def __init__(self, type_: Any) -> None:
        self._decode = decoder(type_)

    def columns(self, lines: Lines) -> Sequence[str]:
        return ()

    def rows(self, lines: Lines, columns: Sequence[str]) -> Iterator[Any]:
        decode = self._decode
        for line in lines:
            content = line.strip()
            if lines.number == 1:
                content = content.removeprefix(_BOM)
            if not content:
                continue
            try:
                value = decode(content)
            except DecodeError as error:
                yield BadRow(content, content, lines.number, error)
            else:
                yield value


class Csv:
    """Cells separated by a delimiter; a quoted cell may hold line breaks."""

    called: ClassVar[str] = "CSV"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    def __init__(
        self, type_: Any, *, columns: Sequence[str], delimiter: str, null: frozenset[str], encoding: str
    ) -> None:
        self._decode = strings_decoder(type_)
        self._columns = tuple(columns)
        self._delimiter = delimiter
        self._null = null
        self._encoding = encoding

    def columns(self, lines: Lines) -> Sequence[str]:
        if self._columns:
            return self._columns
        return next(csv.reader(self._text(lines, []), delimiter=self._delimiter), ())

    def rows(self, lines: Lines, columns: Sequence[str]) -> Iterator[Any]:
        taken: list[bytes] = []  # the lines of the row at hand
        reader = csv.reader(self._text(lines, taken), delimiter=self._delimiter)
        while True:
            taken.clear()
            number = lines.number + 1
            cells: Sequence[str] | None = ()
            try:
                cells = next(reader, None)
                if cells is None:
                    return
                row = self._value(columns, cells, taken) if cells else None
            except csv.Error as error:
                line = b"".join(taken)
                row = BadRow(line, line, number, DecodeError(f"not a row of CSV: {error}"))
            except DecodeError as error:
                line = b"".join(taken)
                row = BadRow(self._body(columns, cells or (), line), line, number, error)
            if row is not None:
                yield row

    def _text(self, lines: Lines, taken: list[bytes]) -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line.decode(self._encoding, "surrogateescape")

    def _value(self, columns: Sequence[str], cells: Sequence[str], taken: Sequence[bytes]) -> Any:
        if len(cells) != len(columns):
            raise DecodeError(f"a row of {len(cells)} cells, but there are {len(columns)} columns")
        if not all(map(str.isascii, cells)):
            self._check_encoding(taken)
        return self._decode(self._fields(columns, cells))

    def _check_encoding(self, taken: Sequence[bytes]) -> None:
        try:
            b"".join(taken).decode(self._encoding)
        except UnicodeDecodeError as error:
            raise DecodeError(f"not {error.encoding}: {error.reason}") from None

    def _fields(self, columns: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
        if self._null.isdisjoint(cells):
            return dict(zip(columns, cells, strict=True))
        given = [cell not in self._null for cell in cells]
        return dict(zip(compress(columns, given), compress(cells, given), strict=True))

    def _body(self, columns: Sequence[str], cells: Sequence[str], line: bytes) -> bytes:
        """The row as a stage that takes JSON can read it, if its cells have names and can be written so."""
        if len(cells) != len(columns):
            return line
        try:
            return orjson.dumps(self._fields(columns, cells))
        except orjson.JSONEncodeError:  # bytes that are not of this encoding
            return line
