"""The lines of a traceback, each with whose it is: the user's own, a library's, or the error itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from flowq.dashboard.access.shown_fields import masked_text
from flowq.delivery.user_code import is_users
from flowq.printable import printable_lines

_MOST_CHARACTERS = 64_000
_FRAME = re.compile(r'\s*File "(.+)", line [0-9]{1,9}')
_GROUP_BAR = re.compile(r"^ *[|+]")
_BETWEEN = ("Traceback (", "Exception Group Traceback (", "The above exception", "During handling", "...")


class TracebackLine(NamedTuple):
    """A line, and whose it is: "own", "lib", or "err" for the error and its text."""

    text: str
    whose: str


def traceback_lines(traceback: str) -> list[TracebackLine]:
    """The lines of a traceback, printable. Of a very long one, the beginning and the end.

    >>> text = 'Traceback (most recent call last):\\n  File "/srv/shop.py", line 3, in parse\\nValueError: x'
    >>> [line.whose for line in traceback_lines(text)]
    ['own', 'own', 'err']
    """
    if len(traceback) > _MOST_CHARACTERS:
        half = _MOST_CHARACTERS // 2
        left = len(traceback) - _MOST_CHARACTERS
        traceback = f"{traceback[:half]}\n... {left:,} characters ...\n{traceback[-half:]}"
    return list(_marked(printable_lines(masked_text(traceback))))


def _marked(lines: list[str]) -> Iterator[TracebackLine]:
    whose = "own"
    for line in lines:
        inside = _GROUP_BAR.sub("", line)  # of an exception group
        plain = inside.lstrip(" |+-0123456789") if inside != line else line
        if (frame := _FRAME.match(inside)) is not None:
            whose = "own" if is_users(frame[1]) else "lib"
        elif not plain or plain.startswith(_BETWEEN):
            whose = "own"
        elif not inside.startswith("    ") and (whose == "err" or not inside.startswith("  ")):
            whose = "err"
        yield TracebackLine(line, whose)
