"""Opens files, folders and standard input, and gives their rows from where a source has left off."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from glob import glob, has_magic
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from flowq.errors import UsageError
from flowq.graph.source_context import SourceContext
from flowq.sources.formats import BadRow, Format
from flowq.sources.lines import Lines
from flowq.sources.position import Position

STDIN = "-"
_PACKED = (".gz", ".bz2", ".xz", ".zip")
_ROWS_BETWEEN_SAVES, _BYTES_BETWEEN_SAVES = 200, 1_000_000
_LONGEST_LINE_SHOWN = 2000

Positions = dict[str, Position]


def read_all(form: Format, files: Sequence[str], ctx: SourceContext[Positions]) -> Iterator[Any]:
    """The rows of all files that were not given before. Rows that are not valid are rejected."""
    positions = dict(ctx.cursor or {})
    for file in found(files, form.suffixes):
        yield from _rows_of(form, file, positions, ctx)
    ctx.save(positions)


def found(files: Sequence[str], suffixes: Sequence[str]) -> list[str]:
    """The files meant, patterns and folders in the order of names, each once. Raises UsageError where there is none."""
    every: dict[str, None] = {}
    for file in files:
        if file == STDIN:
            every[file] = None
        elif Path(file).is_dir():
            inside = (path for path in Path(file).iterdir() if path.is_file() and _has_suffix(path, suffixes))
            every |= dict.fromkeys(sorted(str(path) for path in inside))
        elif has_magic(file) and (matching := glob(file, recursive=True)):  # noqa: PTH207  (a Path has no absolute pattern)
            every |= dict.fromkeys(sorted(path for path in matching if Path(path).is_file()))
        elif Path(file).exists():
            every[file] = None
        else:
            what = "no file matches" if has_magic(file) else "there is no file"
            raise UsageError(f"{what} {file}", hint=f"seen from {Path.cwd()}; flowq run -a files=... names another")
    return list(every)


def _has_suffix(path: Path, suffixes: Sequence[str]) -> bool:
    name = path.name.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return name.endswith(tuple(suffixes)) and not name.startswith(".")


def _rows_of(form: Format, file: str, positions: Positions, ctx: SourceContext[Positions]) -> Iterator[Any]:
    earlier = positions.get(file)
    is_stdin = file == STDIN
    size = 0 if is_stdin else Path(file).stat().st_size
    if earlier is not None and earlier.size and earlier.size == size:
        return  # nothing has come since its end
    most_rows = 1 if is_stdin else _ROWS_BETWEEN_SAVES  # what comes slowly shall not wait for what comes later
    n, saved_at = 0, 0
    with opened(file) as stream:
        lines, columns = _begun(form, stream, earlier)
        for row in form.rows(lines, columns):
            if isinstance(row, BadRow):
                _reject(row, file, ctx)
            else:
                yield row
            n += 1
            if n >= most_rows or lines.offset - saved_at > _BYTES_BETWEEN_SAVES:
                positions[file] = lines.position()
                ctx.save(positions)
                n, saved_at = 0, lines.offset
        if is_stdin:  # the next one is another
            positions.pop(file, None)
        else:
            positions[file] = lines.position(size)


def _begun(form: Format, stream: BinaryIO, earlier: Position | None) -> tuple[Lines, Sequence[str]]:
    """Where to go on reading, and the columns. A file that was replaced begins anew."""
    lines = Lines(stream, earlier)
    columns = form.columns(lines)
    if earlier is not None and lines.is_same and not lines.skip_to(earlier) and stream.seekable():
        stream.seek(0)
        lines = Lines(stream)
        columns = form.columns(lines)
    return lines, columns


def _reject(row: BadRow, file: str, ctx: SourceContext[Any]) -> None:
    line = row.line.decode("utf-8", "backslashreplace").rstrip("\r\n")
    row.error.add_note(
        f"{'standard input' if file == STDIN else file}, line {row.number}: {line[:_LONGEST_LINE_SHOWN]}"
    )
    ctx.reject(row.body, row.error)


@contextmanager
def opened(file: str) -> Generator[BinaryIO]:
    """A file, or standard input, as the bytes that it holds when unpacked."""
    match Path(file).suffix.lower():
        case _ if file == STDIN:
            yield _standard_input()
        case ".gz":
            import gzip

            with gzip.open(file) as stream:
                yield cast("BinaryIO", stream)
        case ".bz2":
            import bz2

            with bz2.open(file) as stream:
                yield cast("BinaryIO", stream)
        case ".xz":
            import lzma

            with lzma.open(file) as stream:
                yield cast("BinaryIO", stream)
        case ".zip":
            with _only_file_in(file) as stream:
                yield stream
        case _:
            with Path(file).open("rb") as stream:
                yield stream


def _standard_input() -> BinaryIO:
    stdin: TextIO | None = sys.stdin
    if stdin is None:
        raise UsageError(
            "standard input is closed, or the worker that read it has died",
            hint="run it again with the same input: it goes on where it was",
        )
    return stdin.buffer


@contextmanager
def _only_file_in(archive: str) -> Generator[BinaryIO]:
    from zipfile import ZipFile

    with ZipFile(archive) as unpacked:
        names = [info.filename for info in unpacked.infolist() if not info.is_dir()]
        if len(names) != 1:
            raise UsageError(
                f"{archive} holds {len(names)} files, and one is needed", hint="unpack it, and name the folder"
            )
        with unpacked.open(names[0]) as stream:
            yield cast("BinaryIO", stream)
