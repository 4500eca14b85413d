"""Reads a stream line by line in batches: as many lines as are there, never waiting to fill a batch."""

from __future__ import annotations

import select
from collections.abc import Iterator
from io import BufferedReader
from typing import NamedTuple

_READ_BYTES = 1 << 20


class Line(NamedTuple):
    """A line that is not blank, and its number in the stream, from 1."""

    number: int
    content: bytes


def line_batches(stream: BufferedReader, *, most: int) -> Iterator[list[Line]]:
    """The lines of a stream in batches of at most `most`. Holds one batch and what was read with it.

    Lines that come slowly are given on at once; a last line needs no newline.
    """
    number, rest = 0, b""
    ready: list[Line] = []
    while data := stream.read1(_READ_BYTES):
        *whole, rest = (rest + data).split(b"\n")
        ready += [Line(n, content) for n, content in enumerate(whole, number + 1) if content.strip()]
        number += len(whole)
        while len(ready) >= most:
            yield ready[:most]
            del ready[:most]
        if ready and not _has_more(stream):
            yield ready
            ready = []
    if rest.strip():
        ready.append(Line(number + 1, rest))
    if ready:
        yield ready


def _has_more(stream: BufferedReader) -> bool:
    """Whether a read would return now. True at the end as well: the next read finds out."""
    return bool(select.select([stream], [], [], 0)[0])
