"""Ready sources: files and folders of NDJSON and CSV, compressed or not, and standard input.

Each goes on where it was: a run that was killed neither repeats nor skips a row, and a later run gives what has come
since, new files and lines appended to old ones. `flowq run --fresh` begins again. A row that is not valid stops
nothing: it becomes a dead letter of the stage that takes the rows.

`files` is a path, a folder, a pattern such as "data/**/*.csv.gz", several of them, or "-" for standard input. Without
it, and over it, `flowq run -a files=...` says. Files are read one after another, in the order of their names. Those
that end in .gz, .bz2, .xz or .zip (of one file) are read through.

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

from flowq.graph.definition import Definition, place_at
from flowq.graph.source_context import SourceContext
from flowq.graph.stage import Source
from flowq.sources.files import read_all
from flowq.sources.formats import Csv, Format, Ndjson
from flowq.sources.position import Position

__all__ = ["csv", "ndjson"]

M = TypeVar("M")
Files = str | PathLike[str] | Sequence[str | PathLike[str]]


def ndjson(row: type[M], files: Files | None = None, *, name: str = "rows") -> Source[M]:
    """A source of the lines of NDJSON files, each a message of the type `row`. `name` is its name in the pipeline.

    Blank lines are passed over. A folder stands for its files *.ndjson and *.jsonl, compressed or not.

    Raises EncodeError if `row` is no type of a message. While it runs, UsageError for a file that is not there.
    """
    return _source(Ndjson(row), row, files, name)


def csv(
    row: type[M],
    files: Files | None = None,
    *,
    name: str = "rows",
    columns: Sequence[str] = (),
    delimiter: str = ",",
    null: Collection[str] = ("",),
    encoding: str = "utf-8-sig",
) -> Source[M]:
    """A source of the rows of CSV files, each a message of the type `row`. `name` is its name in the pipeline.

    The first row names the columns; `columns` does where there is no such row. A cell that is one of `null` is left
    out, and its field has its default: write `delay: int | None = None`. Columns that `row` does not have are passed
    over, unless it forbids them. A folder stands for its files *.csv, compressed or not.

    Raises EncodeError if `row` is no type of a message. While it runs, UsageError for a file that is not there.
    """
    form = Csv(row, columns=columns, delimiter=delimiter, null=frozenset(null), encoding=encoding)
    return _source(form, row, files, name)


def _source(form: Format, row: Any, files: Files | None, name: str) -> Source[Any]:
    def read(ctx: SourceContext[dict[str, Position]], files: str | list[str]) -> Iterator[Any]:
        return read_all(form, [files] if isinstance(files, str) else files, ctx)

    if files is not None:
        read.__defaults__ = (_paths(files),)
    read.__annotations__["return"] = Iterator[row]
    read.__name__ = name
    read.__doc__ = f"The rows of {form.called} files."
    # The line that a message about this source shall name.
    caller = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    place = place_at(caller.f_code.co_filename, caller.f_lineno)
    return Source(Definition(read, {"name": name}, takes_messages=False, written_at=place))


def _paths(files: Files | None) -> list[str]:
    if files is None:
        return []
    return [fspath(files)] if isinstance(files, (str, PathLike)) else [fspath(file) for file in files]
