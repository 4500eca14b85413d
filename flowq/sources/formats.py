"""Parses the rows of a file, NDJSON or CSV: each is a value of the requested type, or invalid."""

from __future__ import annotations

import importlib.util
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import compress
from typing import Any, ClassVar, Literal, Protocol, get_args

import orjson
from pydantic import ValidationError

from flowq.delivery.encoding.codec import decoder, strings_decoder, tag_of
from flowq.errors import DecodeError, UsageError
from flowq.sources.columns import check_columns, columns_known_to
from flowq.sources.encoding import JSON_LINES, DeclaredEncodings
from flowq.sources.lines import Lines

Ragged = Literal["error", "pad", "ignore"]
"""What becomes of a row with more or fewer cells than there are columns."""

_REPLACED = "\ufffd"
_LONGEST_KEPT_OF_A_LINE = 1_000_000


@dataclass(frozen=True, slots=True)
class BadRow:
    """An invalid row. `body` is what a stage may still be able to decode, `line` the row as it was read.

    `number` is that of its first line, `column` the cell or field at fault, if it is known.
    """

    body: bytes
    line: bytes
    number: int
    error: DecodeError
    column: str = ""


@dataclass(frozen=True, slots=True)
class IgnoredRow:
    """A row that is left out on purpose. `number` is that of its first line."""

    number: int


class Format(Protocol):
    """A file format."""

    called: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    encodings: DeclaredEncodings

    def columns(self, lines: Lines) -> Sequence[str]:
        """Read what comes before the rows. Raises UsageError for a header with which no row can be read."""
        ...

    def rows(self, lines: Lines, columns: Sequence[str]) -> Iterator[Any]:
        """The rows from here on, as values, BadRow or IgnoredRow. After each, `lines` is at its end."""
        ...


class Ndjson:
    """One JSON value per line. Raises UsageError for an encoding that cannot be used."""

    called: ClassVar[str] = "NDJSON"
    suffixes: ClassVar[tuple[str, ...]] = (".ndjson", ".jsonl")

    def __init__(self, type_: Any, encoding: str | Mapping[str, str]) -> None:
        self._decode = decoder(type_)
        try:
            self.encodings = DeclaredEncodings(encoding, otherwise="utf-8", ends=JSON_LINES.ends)
        except (LookupError, TypeError, ValueError) as error:
            raise UsageError(f"ndjson(encoding={encoding!r}): {error}") from None

    def columns(self, lines: Lines) -> Sequence[str]:
        return ()

    def rows(self, lines: Lines, columns: Sequence[str]) -> Iterator[Any]:
        decode, encoding = self._decode, lines.encoding
        is_utf8 = encoding.name == JSON_LINES.name
        for line in lines:
            content = line.strip()
            if lines.number == 1 and is_utf8:
                content = content.removeprefix(BOM_UTF8)
            if not content:
                continue
            if lines.is_cut:
                kept = content[:_LONGEST_KEPT_OF_A_LINE]
                error = f"a line of more than {lines.longest:,} bytes, only the first {len(kept):,} are kept"
                yield BadRow(kept, kept, lines.number, DecodeError(error))
                continue
            try:
                if not is_utf8 and not (content := encoding.text(line, lines.number).strip().encode()):
                    continue
                value = decode(content)
            except UnicodeError as error:
                yield BadRow(line, line, lines.number, _not_text(encoding.name, error))
            except DecodeError as error:
                yield BadRow(content, content, lines.number, error, _field_of(error))
            else:
                yield value


@dataclass(slots=True)
class _RowLines:
    """The lines of the current row, one of which may not be valid in the encoding."""

    lines: list[bytes] = field(default_factory=list[bytes])
    n_bytes: int = 0
    undecodable: UnicodeDecodeError | None = None

    def clear(self) -> None:
        self.lines.clear()
        self.n_bytes, self.undecodable = 0, None

    @property
    def content(self) -> bytes:
        return b"".join(self.lines)


class Csv:
    """Cells separated by a delimiter; a quoted cell may hold line breaks."""

    called: ClassVar[str] = "CSV"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    def __init__(
        self,
        type_: Any,
        *,
        columns: Sequence[str],
        delimiter: str,
        null: frozenset[str],
        encoding: str | Mapping[str, str],
        ragged: Ragged,
    ) -> None:
        self._type_name = tag_of(type_)
        self._decode = strings_decoder(type_)
        self._columns = tuple(columns)
        self._known = columns_known_to(type_)
        self._delimiter = delimiter
        self._null = null
        self._ragged = ragged
        if ragged not in get_args(Ragged):
            raise UsageError(f"csv(ragged={ragged!r}): it must be one of {', '.join(map(repr, get_args(Ragged)))}")
        try:
            self.encodings = DeclaredEncodings(encoding, otherwise="utf-8")
            _parser().reader([], delimiter=delimiter)
        except (LookupError, TypeError, ValueError) as error:
            raise UsageError(f"csv(encoding={encoding!r}, delimiter={delimiter!r}): {error}") from None
        if columns:
            self._check(self._columns)

    def columns(self, lines: Lines) -> Sequence[str]:
        if self._columns:
            return self._columns
        own = _RowLines()
        header: list[str]
        for header in self._reader(lines, own):
            if own.undecodable is not None:
                self._refuse(own.content, own.undecodable)
            if header and (len(header) > 1 or header[0].strip()):
                self._check(header)
                return header
            own.clear()
        return ()

    def _check(self, columns: Sequence[str]) -> None:
        check_columns(columns, self._known, type_name=self._type_name, delimiter=self._delimiter)

    def _refuse(self, header: bytes, error: UnicodeDecodeError) -> None:
        raise UsageError(
            f"its first line is not {error.encoding}: {header[:200]!r}",
            hint="perhaps  csv(..., encoding='cp1252'); for this file alone  encoding={'its name': 'cp1252'}",
        )

    def rows(self, lines: Lines, columns: Sequence[str]) -> Iterator[Any]:
        own = _RowLines()
        reader, error_class = self._reader(lines, own), _parser().Error
        while True:
            own.clear()
            number = lines.number + 1
            cells: Sequence[str] | None = ()
            try:
                cells = next(reader, None)
                if cells is None:
                    return
                row = self._value(columns, cells, own, number) if cells else None
            except error_class as error:
                row = self._misshapen(columns, own, lines, number, str(error))
            except DecodeError as error:
                column = self._column_at_fault(columns, cells or (), own, error)
                row = BadRow(self._body(columns, cells or (), own), own.content, number, error, column)
            if row is not None:
                yield row

    def _reader(self, lines: Lines, own: _RowLines) -> Any:
        return _parser().reader(self._text(lines, own), delimiter=self._delimiter, strict=True)

    def _text(self, lines: Lines, own: _RowLines) -> Iterator[str]:
        """The lines of rows, decoded. Sets `lines.row_start` for rows of several lines."""
        encoding, read = lines.encoding, iter(lines)
        while True:
            if not own.lines:
                lines.row_start = None
            elif lines.row_start is None:
                lines.row_start = lines.position_before()
            line = next(read, None)
            if line is None:
                return
            own.lines.append(line)
            own.n_bytes += len(line)
            if own.n_bytes > lines.longest or lines.is_cut:
                self._give_up_on_row(lines)
            try:
                yield encoding.text(line, lines.number)
            except UnicodeDecodeError as error:
                own.undecodable = error
                yield line.decode(encoding.name, "replace")

    def _give_up_on_row(self, lines: Lines) -> None:
        """A quote may be missing, or it is not CSV: where the next row begins cannot be known."""
        if lines.row_start is None:
            lines.row_start = lines.position_before()
        raise UsageError(
            f"the row that begins in line {lines.row_start.line + 1} has more than {lines.longest:,} bytes",
            hint="a closing quote may be missing there; csv(max_bytes=...) allows longer rows",
        )

    def _value(self, columns: Sequence[str], cells: Sequence[str], own: _RowLines, number: int) -> Any:
        if own.undecodable is not None:
            raise _not_text(own.undecodable.encoding, own.undecodable)
        if len(cells) != len(columns) and not self._can_pad(columns, cells):
            if self._ragged == "ignore":
                return IgnoredRow(number)
            raise DecodeError(
                f"a ragged row, cells: {len(cells)}, columns: {len(columns)}",
                hint='if such rows are expected: csv(..., ragged="pad") adds missing cells, "ignore" skips the rows',
            )
        return self._decode(self._fields(columns, cells))

    def _can_pad(self, columns: Sequence[str], cells: Sequence[str]) -> bool:
        """Whether a ragged row may be completed: no cell that says something is dropped."""
        n = len(columns)
        return self._ragged == "pad" and all(not cell or cell in self._null for cell in cells[n:])

    def _fields(self, columns: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
        if self._null.isdisjoint(cells):
            return dict(zip(columns, cells, strict=False))
        filled = [cell not in self._null for cell in cells[: len(columns)]]
        return dict(zip(compress(columns, filled), compress(cells, filled), strict=True))

    def _misshapen(self, columns: Sequence[str], own: _RowLines, lines: Lines, number: int, why: str) -> BadRow:
        """A row that is not valid CSV; a lenient parser finds the column in which the fault begins."""
        text = [line.decode(lines.encoding.name, "replace") for line in own.lines]
        cells = next(_parser().reader(text, delimiter=self._delimiter), ())
        if why == "unexpected end of data":
            why = f"a quote is opened in it and never closed, up to line {lines.number}"
        error = DecodeError(f"not a row of CSV: {why}")
        return BadRow(own.content, own.content, number, error, _column_at(columns, len(cells) - 1))

    def _column_at_fault(self, columns: Sequence[str], cells: Sequence[str], own: _RowLines, error: DecodeError) -> str:
        if own.undecodable is not None:
            return _column_at(columns, next((i for i, cell in enumerate(cells) if _REPLACED in cell), 0))
        if len(cells) != len(columns) and not self._can_pad(columns, cells):
            return _column_at(columns, len(cells))
        return _field_of(error)

    def _body(self, columns: Sequence[str], cells: Sequence[str], own: _RowLines) -> bytes:
        """The row as JSON for a stage, if its cells have names and are valid in the encoding."""
        if own.undecodable is not None or (len(cells) != len(columns) and not self._can_pad(columns, cells)):
            return own.content
        try:
            return orjson.dumps(self._fields(columns, cells))
        except orjson.JSONEncodeError:  # half a surrogate pair, which some encodings can represent
            return own.content


@cache
def _parser() -> Any:
    """A csv module of our own: its limit of the size of a cell is global, and the host program may set it too."""
    spec = importlib.util.find_spec("_csv")
    assert spec is not None
    assert spec.loader is not None
    parser: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parser)
    parser.field_size_limit(2**31 - 1)
    return parser


def _column_at(columns: Sequence[str], index: int) -> str:
    return columns[min(max(index, 0), len(columns) - 1)] if columns else ""


def _field_of(error: DecodeError) -> str:
    """The field that is invalid; the first one if there are several."""
    if not isinstance(error.__cause__, ValidationError):
        return ""
    findings = error.__cause__.errors(include_url=False, include_input=False, include_context=False)
    return ".".join(str(part) for part in findings[0]["loc"])


def _not_text(encoding: str, error: UnicodeError) -> DecodeError:
    why = error.reason if isinstance(error, UnicodeDecodeError | UnicodeEncodeError) else str(error)
    return DecodeError(f"not {encoding}: {why}", hint="encoding= names another encoding, also for single files")
