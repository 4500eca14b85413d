"""Reads files, folders and standard input, and yields their rows from where a source stopped."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from flowq.errors import FlowqError, UsageError
from flowq.graph.declaration.source_context import SourceContext
from flowq.sources.formats import BadRow, Format, IgnoredRow
from flowq.sources.lines import Lines
from flowq.sources.opening import STDIN, Readable, has_suffix, readables
from flowq.sources.position import Position

_ROWS_BETWEEN_SAVES, _BYTES_BETWEEN_SAVES = 200, 1_000_000
_LONGEST_LINE_SHOWN = 2000
_MOST_FILES_SHOWN = 10
_MOST_LINES_SHOWN = 5

log = logging.getLogger("flowq.sources")

Positions = dict[str, Position]


class UnreadableFiles(UsageError):
    """Some files could not be read, or not completely. Everything else was emitted."""

    code = "FQ213"


def read_all(form: Format, files: Sequence[str], ctx: SourceContext[Positions], *, longest: int) -> Iterator[Any]:
    """The rows of all files that were not yielded before. Invalid rows are rejected.

    A file that cannot be read does not stop the others from being read. At the end UnreadableFiles names all such
    files; a later run resumes them where the error occurred, and skips the others.
    """
    reading = _Reading(form, dict(ctx.cursor or {}), ctx, longest, [])
    for file in found(files, form.suffixes):
        yield from reading.rows_of(file)
    ctx.save(reading.positions)
    if reading.failures:
        raise _unreadable(reading.failures)


def found(files: Sequence[str], suffixes: Sequence[str]) -> list[str]:
    """The files that are meant, each once; those of patterns and folders are sorted. Raises UsageError for none."""
    every: dict[str, None] = {}
    for file in files:
        if not file:  # from an unset variable, say; to pathlib it is the current folder
            raise UsageError("the name of a file is empty", hint='"." is the current folder')
        if file == STDIN:
            every[file] = None
        elif Path(file).is_dir():
            inside = (path for path in Path(file).iterdir() if path.is_file() and has_suffix(path.name, suffixes))
            every |= dict.fromkeys(sorted(str(path) for path in inside))
        elif Path(file).exists():
            every[file] = None
        elif has_magic(file) and (matching := glob(file, recursive=True)):  # noqa: PTH207  (a Path has no absolute pattern)
            every |= dict.fromkeys(sorted(path for path in matching if Path(path).is_file()))
        else:
            what = "no file matches" if has_magic(file) else "there is no file"
            raise UsageError(f"{what} {file}", hint=f"relative to {Path.cwd()}; flowq run -a files=... names others")
    return list(every)


@dataclass(slots=True)
class _Reading:
    """One run over all files. `failures`: where something could not be read, and why."""

    form: Format
    positions: Positions
    ctx: SourceContext[Positions]
    longest: int
    failures: list[tuple[str, Exception]]

    def rows_of(self, file: str) -> Iterator[Any]:
        """The rows of a file, or of all members of an archive."""
        try:
            for readable in readables(file, self.form.suffixes):
                yield from self._rows_in(readable)
        except Exception as error:  # noqa: BLE001  (a file that vanished, an invalid archive)
            self.failures.append((file, error))

    def _rows_in(self, readable: Readable) -> Iterator[Any]:
        earlier = self.positions.get(readable.name)
        if earlier is not None and earlier.is_end and earlier.stat and earlier.stat == readable.stat:
            return  # nothing has been added since
        try:
            is_the_same = yield from self._rows_after(readable, earlier)
            if not is_the_same:
                yield from self._rows_after(readable, None)
        except Exception as error:  # noqa: BLE001  (each decompression library has errors of its own)
            position = self.positions.get(readable.name)
            where = f", after line {position.line}" if position and position.line else ""
            self.failures.append((readable.called + where, error))

    def _rows_after(self, readable: Readable, earlier: Position | None) -> Generator[Any, None, bool]:
        """False, and no rows, if this is not the file that the position was in."""
        with readable.open() as stream:
            lines = Lines(stream, longest=self.longest)
            lines.encoding = self.form.encodings.of(readable.name).meant_by(lines.peek)
            if earlier and readable.is_stdin and not earlier.begins_like(lines.peek(earlier.head_bytes)):
                earlier = None
            columns = self.form.columns(lines)
            if earlier and readable.can_jump and earlier.stat and earlier.stat == readable.stat:
                lines.jump_to(earlier)
            elif earlier and not lines.skip_to(earlier):
                if not readable.is_stdin:
                    return False
                raise UsageError(
                    "it begins like the input that was interrupted, but continues differently",
                    hint="pipe in the same input again; or start with this one: flowq run --fresh",
                )
            yield from self._parsed(readable, lines, columns)
        return True

    def _parsed(self, readable: Readable, lines: Lines, columns: Sequence[str]) -> Iterator[Any]:
        ctx, n, saved_at, ignored = self.ctx, 0, lines.offset, _Ignored()
        most_rows = 1 if readable.is_stdin else _ROWS_BETWEEN_SAVES  # rows that arrive slowly must not wait
        ctx.place = lambda: (
            f"{readable.called}, line {lines.number if lines.row_start is None else lines.row_start.line + 1}"
        )
        try:
            for row in self.form.rows(lines, columns):
                if isinstance(row, BadRow):
                    _reject(row, readable.called, ctx)
                elif isinstance(row, IgnoredRow):
                    ignored.add(row)
                else:
                    yield row
                n += 1
                if n >= most_rows or lines.offset - saved_at > _BYTES_BETWEEN_SAVES:
                    self._note(readable, lines.position())
                    ctx.save(self.positions)
                    n, saved_at = 0, lines.offset
        except Exception:  # raised again: the next run starts with the row that failed
            self._note(readable, lines.row_start or lines.position())
            raise
        finally:
            ctx.place = ""
            ignored.report(readable.called)
        self._note(readable, lines.position(), is_end=True)
        if readable.is_stdin:  # the next one is another
            self.positions.pop(readable.name, None)

    def _note(self, readable: Readable, position: Position, *, is_end: bool = False) -> None:
        self.positions[readable.name] = replace(position, stat=readable.stat, is_end=is_end)


@dataclass(slots=True)
class _Ignored:
    """The rows of one file that were left out on purpose."""

    n: int = 0
    first_numbers: list[int] = field(default_factory=list[int])

    def add(self, row: IgnoredRow) -> None:
        self.n += 1
        if self.n <= _MOST_LINES_SHOWN:
            self.first_numbers.append(row.number)

    def report(self, called: str) -> None:
        if self.n:
            lines = ", ".join(map(str, self.first_numbers)) + (", ..." if self.n > _MOST_LINES_SHOWN else "")
            log.warning("%s: ragged rows ignored: %d, in lines %s", called, self.n, lines)


def _reject(row: BadRow, called: str, ctx: SourceContext[Any]) -> None:
    line = row.line[: 4 * _LONGEST_LINE_SHOWN].decode("utf-8", "backslashreplace").rstrip("\r\n")
    column = f", column {row.column}" if row.column else ""
    row.error.add_note(f"{called}, line {row.number}{column}: {line[:_LONGEST_LINE_SHOWN]}")
    ctx.reject(row.body, row.error)


def _unreadable(failures: Sequence[tuple[str, Exception]]) -> UnreadableFiles:
    if len(failures) == 1:
        where, error = failures[0]
        again = "once it is complete, the next run resumes there"
        hint = error.hint if isinstance(error, FlowqError) else again
        return UnreadableFiles(f"{where}: {_why(error)}", hint=hint)
    told = [f"{where}: {_why(error)}{_remedy(error)}" for where, error in failures[:_MOST_FILES_SHOWN]]
    if len(failures) > len(told):
        told.append(f"and {len(failures) - len(told):,} more")
    again = "once they are fixed, the next run resumes there, and reads nothing twice"
    return UnreadableFiles(f"{len(failures):,} files could not be read", detail="\n".join(told), hint=again)


def _why(error: Exception) -> str:
    if isinstance(error, FlowqError):
        return error.message
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__


def _remedy(error: Exception) -> str:
    return f"; {error.hint}" if isinstance(error, FlowqError) and error.hint else ""
