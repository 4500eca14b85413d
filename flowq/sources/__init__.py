"""Ready-made sources: files and folders of NDJSON and CSV, compressed or not, and standard input.

Each resumes where it stopped: a run that was killed neither repeats nor skips a row, and a later run emits only what is
new: files, and lines appended to known files. `flowq run --fresh` starts from the beginning. An invalid row does not
stop the source: it becomes a dead letter of the stage that accepts the rows. Nor does a file that cannot be read: the
others are read, and then the run ends with an error that names it.

`files` is a path, a folder, a pattern such as "data/**/*.csv.gz", a list of them, or "-" for standard input;
`flowq run -a files=...` overrides it. Files are read one after another, sorted by name. Files that end in .gz, .bz2,
.xz or .zst are decompressed while they are read, and so are the files in a .zip archive.

`encoding` is the Python name of an encoding, for all files or by patterns: {"old/*.csv": "cp1252"}. The first pattern
that matches the end of a path, as in `pathlib.PurePath.match`, decides; a file that matches none is UTF-8. But if a
file begins with the byte order mark of UTF-8, UTF-16 or UTF-32, that decides. A row that is not in the encoding becomes
a dead letter.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from os import PathLike, fspath
from typing import Any, TypeVar

from flowq.errors import UsageError
from flowq.graph.declaration.definition import Definition, place_at
from flowq.graph.declaration.option_values import size
from flowq.graph.declaration.source_context import SourceContext
from flowq.graph.declaration.stage import Source
from flowq.sources.files import read_all
from flowq.sources.formats import Csv, Format, Ndjson, Ragged
from flowq.sources.position import Position

__all__ = ["csv", "ndjson"]

DEFAULT_MAX_BYTES = 16_000_000

M = TypeVar("M")
Files = str | PathLike[str] | Sequence[str | PathLike[str]]
Encoding = str | Mapping[str, str]


def ndjson(
    row: type[M],
    files: Files | None = None,
    *,
    name: str = "rows",
    encoding: Encoding = "utf-8",
    max_bytes: int | str = DEFAULT_MAX_BYTES,
) -> Source[M]:
    """A source of the lines of NDJSON files, each a message of the type `row`.

    Blank lines are skipped. A folder means its files *.ndjson and *.jsonl, compressed or not.

    row: the type of the messages: a pydantic model, a dataclass, a TypedDict or a plain JSON type.
    files: which files, as described above (none: they are named when the pipeline runs).
    name: the name in the pipeline ("rows").
    encoding: the encoding of the files ("utf-8"), as described above.
    max_bytes: the longest line: bytes, or text such as "16MB" (16,000,000). A longer one becomes a dead letter with its
        first 1,000,000 bytes.

    Raises EncodeError if `row` cannot be the type of a message, UsageError for an encoding or `max_bytes` that cannot
    be used. While it runs, UsageError for a file that does not exist, and at the end for files that could not be read.

    >>> from pydantic import BaseModel
    >>> from flowq.sources import ndjson
    >>> class Order(BaseModel):
    ...     id: int
    >>> ndjson(Order, "orders/*.ndjson.gz", name="orders", max_bytes="1MB").name
    'orders'
    """
    return _source(Ndjson(row, encoding), row, files, name, max_bytes)


def csv(
    row: type[M],
    files: Files | None = None,
    *,
    name: str = "rows",
    columns: Sequence[str] = (),
    delimiter: str = ",",
    null: Collection[str] = ("",),
    encoding: Encoding = "utf-8",
    ragged: Ragged = "error",
    max_bytes: int | str = DEFAULT_MAX_BYTES,
) -> Source[M]:
    """A source of the rows of CSV files, each a message of the type `row`.

    Columns that `row` does not have are ignored, unless it forbids extra fields. A folder means its files *.csv,
    compressed or not. A file is rejected, and the others are read, if its header is not in the `encoding`, has a field
    twice or none of the fields, or if a row has more than `max_bytes`, because then a quote is missing.

    row: the type of the messages: a pydantic model, a dataclass or a TypedDict.
    files: which files, as described above (none: they are named when the pipeline runs).
    name: the name in the pipeline ("rows").
    columns: the names of the columns, for files without a header (those in the first row).
    delimiter: the character between two cells (",").
    null: texts that mean an empty cell ("" only). Its field gets its default: write `delay: int | None = None`.
    encoding: the encoding of the files ("utf-8"), as described above.
    ragged: what becomes of a row with fewer or more cells than there are columns: a dead letter ("error"); "pad" leaves
        out the fields of missing cells, as for empty ones, and drops surplus cells if all are empty, otherwise the row
        is a dead letter; "ignore" leaves out the row, and the log names the first lines and the number for each file.
    max_bytes: the longest row: bytes, or text such as "16MB" (16,000,000).

    Raises EncodeError if `row` cannot be the type of a message, UsageError for an encoding, delimiter, `ragged`
    or `max_bytes` that cannot be used. While it runs, UsageError for a file that does not exist, and at the end for
    files that could not be read.

    >>> from pydantic import BaseModel
    >>> from flowq.sources import csv
    >>> class Flight(BaseModel):
    ...     carrier: str
    ...     delay: int | None = None
    >>> csv(Flight, "flights/2008.csv.bz2", null=("", "NA"), name="flights").name
    'flights'
    """
    form = Csv(row, columns=columns, delimiter=delimiter, null=frozenset(null), encoding=encoding, ragged=ragged)
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
    # The line that error messages about this source name.
    caller = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    place = place_at(caller.f_code.co_filename, caller.f_lineno)
    return Source(Definition(read, {"name": name}, accepts_messages=False, written_at=place))


def _paths(files: Files | None) -> list[str]:
    if files is None:
        return []
    return [fspath(files)] if isinstance(files, (str, PathLike)) else [fspath(file) for file in files]
