"""A short name for a kind of failure, the same for failures that differ only in numbers."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

# A word of hexadecimal digits and dashes with a decimal digit in it, or digits. The last group only passes over letters
# and dashes before which no number begins: looking at each of them again would take a tenth of a second.
_NUMBERS = re.compile(
    r"\b(?:0x)?(?:[0-9a-fA-F-]*+\d|[a-fA-F-]*+[0-9])[0-9a-fA-F-]*\b|\d+|(\b[a-fA-F-]{16,}+)",
)
_MOST_CHARACTERS = 2000
_FRAME = re.compile(r'^  File "(.+)", line ([0-9]{1,9}), in (.+)$', re.MULTILINE)


class Frame(NamedTuple):
    """One line of a traceback: where it was in the user's code."""

    file: str
    line: int
    function: str


def without_numbers(text: str) -> str:
    """The beginning of a text, with the same sign for every number, address and id."""
    return _NUMBERS.sub(lambda found: found[1] or "#", text[:_MOST_CHARACTERS])


def frames_in(traceback: str) -> list[Frame]:
    """The frames in the text of a traceback, the deepest last."""
    return [Frame(file, int(line), function) for file, line, function in _FRAME.findall(traceback)]


def last_frame(traceback: str) -> Frame | None:
    """The frame in which an error was raised, from the text of a traceback without flowq's own frames."""
    at = len(traceback)
    while at >= 0:
        at = traceback.rfind('\n  File "', 0, at)
        if found := _FRAME.match(traceback, at + 1):
            return Frame(found[1], int(found[2]), found[3])
    return None


def fingerprint(error: str, traceback: str) -> str:
    """Eight hexadecimal digits for an error line and the function that raised it.

    Numbers, addresses and ids in the text count as the same, and line numbers do not count: the name outlives an edit
    of the file above the function.

    >>> fingerprint("HTTP 503 after 1.25 s at 0x7f3a", "") == fingerprint("HTTP 502 after 11.5 s at 0x88", "")
    True
    >>> fingerprint("unknown airport SJU", "") == fingerprint("unknown airport BQN", "")
    False
    """
    frame = last_frame(traceback)
    place = (frame.file, frame.function) if frame else ("", "")
    told = "\0".join((without_numbers(error), *place))
    return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
