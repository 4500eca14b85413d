"""Ready sources: files and folders of NDJSON and CSV, compressed or not, and standard input.

Each goes on where it was: a run that was killed neither repeats nor skips a row, and a later run gives what has come
since, new files and lines appended to old ones. `flowq run --fresh` begins again. A row that is not valid stops
nothing: it becomes a dead letter of the stage that takes the rows. Nor does a file that cannot be read: the others are
read, and then the run ends with an error that names it.

`files` is a path, a folder, a pattern such as "data/**/*.csv.gz", several of them, or "-" for standard input. Without
it, and over it, `flowq run -a files=...` says. Files are read one after another, in the order of their names. Those
that end in .gz, .bz2, .xz or .zst are unpacked as they are read, and so are the files in a .zip.

>>> from pydantic import BaseModel
>>> class Row(BaseModel):
...     n: int
>>> rows = ndjson(Row, "data/*.ndjson.gz")
>>> rows.name
'rows'
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from os import PathLike, fspath
from typing import Any, TypeVar

from flowq.errors import UsageError
from flowq.graph.declaration.definition import Definition, place_at
from flowq.graph.declaration.option_values import size
from flowq.graph.declaration.source_context import SourceContext
from flowq.graph.declaration.stage import Source
from flowq.sources.files import read_all
from flowq.sources.formats import Csv, Format, Ndjson
from flowq.sources.position import Position

__all__ = ["csv", "ndjson"]

DEFAULT_MAX_BYTES = 16_000_000

M = TypeVar("M")
Files = str | PathLike[str] | Sequence[str | PathLike[str]]


def ndjson(
    row: type[M], files: Files | None = None, *, name: str = "rows", max_bytes: int | str = DEFAULT_MAX_BYTES
) -> Source[M]:
    """A source of the lines of NDJSON files, each a message of the type `row`. `name` is its name in the pipeline.

    Blank lines are passed over. A line above `max_bytes` is a dead letter with its first 1,000,000 bytes. A folder
    stands for its files *.ndjson and *.jsonl, compressed or not.

    Raises EncodeError if `row` is no type of a message. While it runs, UsageError for a file that is not there, and in
    the end for files that could not be read.
    """
    return _source(Ndjson(row), row, files, name, max_bytes)


def csv(
    row: type[M],
    files: Files | None = None,
    *,
    name: str = "rows",
    columns: Sequence[str] = (),
    delimiter: str = ",",
    null: Collection[str] = ("",),
    encoding: str = "utf-8-sig",
    max_bytes: int | str = DEFAULT_MAX_BYTES,
) -> Source[M]:
    """A source of the rows of CSV files, each a message of the type `row`. `name` is its name in the pipeline.

    The first row names the columns; `columns` does where there is no such row. A cell that is one of `null` is left
    out, and its field has its default: write `delay: int | None = None`. Columns that `row` does not have are passed
    over, unless it forbids them. A folder stands for its files *.csv, compressed or not.

    A file is refused, and the others are read, if its header is not in the `encoding`, names a field twice or none at
    all, or if a row has more than `max_bytes`: then a quote is missing.

    Raises EncodeError if `row` is no type of a message, UsageError for an encoding or delimiter that cannot be used.
    While it runs, UsageError for a file that is not there, and in the end for files that could not be read.
    """
    form = Csv(row, columns=columns, delimiter=delimiter, null=frozenset(null), encoding=encoding)
    return _source(form, row, files, name, max_bytes)


def _source(form: Format, row: Any, files: Files | None, name: str, max_bytes: int | str) -> Source[Any]:
    try:
        longest = size(max_bytes)
    except ValueError as error:
        raise UsageError(f"max_bytes={max_bytes!r}: {error}") from None

    def read(ctx: SourceContext[dict[str, Position]], files: str | list[str]) -> Iterator[Any]:
        return read_all(form, [files] if isinstance(files, str) else files, ctx, longest=longest)

    if files is not None:
        read.__defaults__ = (_paths(files),)
    read.__annotations__["return"] = Iterator[row]
    read.__name__ = name
    read.__doc__ = f"The rows of {form.called} files."
    # The line that a message about this source shall name.
    caller = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    place = place_at(caller.f_code.co_filename, caller.f_lineno)
    return Source(Definition(read, {"name": name}, accepts_messages=False, written_at=place))


def _paths(files: Files | None) -> list[str]:
    if files is None:
        return []
    return [fspath(files)] if isinstance(files, (str, PathLike)) else [fspath(file) for file in files]
