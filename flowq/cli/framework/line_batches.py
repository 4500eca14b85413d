"""Reads a stream line by line in batches: as many lines as are there, never waiting to fill a batch."""

from __future__ import annotations

import select
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple, cast

from flowq.errors import UsageError
from flowq.sources.lines import Lines

_LONGEST_LINE_BYTES = 512_000_000


class Line(NamedTuple):
    """A line that is not blank, and its number in the stream, from 1."""

    number: int
    content: bytes


def opened(source: str, *, hint: str = "") -> AbstractContextManager[BufferedReader]:
    """Standard input for `-`, else a file. Raises UsageError, with `hint`, for one that cannot be read."""
    if source == "-":
        return nullcontext(cast("BufferedReader", sys.stdin.buffer))
    try:
        return Path(source).open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {source}", detail=error.strerror or str(error), hint=hint) from None


def line_batches(stream: BufferedReader, *, most: int) -> Iterator[list[Line]]:
    """The lines of a stream in batches of at most `most`. Holds one batch and what was read with it.

    Lines that arrive slowly are yielded at once. The last line needs no newline, and a byte order mark is removed. A
    line above 512 MB, which no server stores, is cut off there.
    """
    ready: list[Line] = []
    lines = Lines(stream, longest=_LONGEST_LINE_BYTES)
    for content in lines:
        if lines.number == 1:
            content = content.removeprefix(BOM_UTF8)
        if content.strip():
            ready.append(Line(lines.number, content))
        if len(ready) == most or (ready and lines.needs_to_read and not _has_more(stream)):
            yield ready
            ready = []
    if ready:
        yield ready


def _has_more(stream: BufferedReader) -> bool:
    """Whether a read would return now. True at the end as well: the next read finds out."""
    return bool(select.select([stream], [], [], 0)[0])
