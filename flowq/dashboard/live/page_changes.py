"""What changes on a page, as numbered events: encoded once for all who read them."""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flowq.printable import json_text

KEPT = 60
LONGEST_TEXT, LONGEST_SHAPE = 300, 2000
_SHAPE = re.compile(r"M[0-9 .MLlHVZ-]+")
Rows = Mapping[str, Sequence[Mapping[str, str]]]


class Event:
    """One event of a stream: its bytes, and the same compressed so that streams can be made of such pieces."""

    def __init__(self, text: str) -> None:
        self.plain = text.encode()

    @cached_property
    def packed(self) -> bytes:
        """A piece of a deflate stream. It refers to nothing before it, so all viewers can share it."""
        packer = zlib.compressobj(4, zlib.DEFLATED, -zlib.MAX_WBITS)
        return packer.compress(self.plain) + packer.flush(zlib.Z_FULL_FLUSH)


BEAT = Event(": beat\n\n")
BYE = Event("retry: 2000\nevent: bye\ndata: {}\n\n")


@dataclass(frozen=True, slots=True)
class _Patch:
    texts: Mapping[str, str]
    rows: Rows


class Changes:
    """The stream of one pipeline. A reader who missed at most `KEPT` changes gets those; any other gets everything.

    `epoch` tells the numbers of this stream from those of another process.
    """

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch
        self._number = 0
        self._texts: Mapping[str, str] = {}
        self._rows: Rows = {}
        self._about: Mapping[str, Any] = {}
        self._patches: deque[_Patch] = deque(maxlen=KEPT)
        self._full: Event | None = None

    def add(self, texts: Mapping[str, str], rows: Rows, about: Mapping[str, Any]) -> Event:
        """The event of a new look. `about` is said with each: its moment, and why there is no newer one."""
        patch = _Patch(
            {name: text for name, text in texts.items() if self._texts.get(name) != text},
            {name: each for name, each in rows.items() if self._rows.get(name) != each},
        )
        self._texts, self._rows, self._about, self._full = texts, rows, about, None
        return self._next(patch)

    def repeat(self, about: Mapping[str, Any]) -> Event:
        """The event of a look that failed: the same texts."""
        self._about, self._full = about, None
        return self._next(_Patch({}, {}))

    @property
    def is_empty(self) -> bool:
        """Whether there has been no event yet."""
        return self._number == 0

    @property
    def full(self) -> Event:
        """Everything there is now."""
        if self._full is None:
            self._full = self._event("full", _Patch(self._texts, self._rows))
        return self._full

    def since(self, last_id: str) -> Event:
        """What a reader needs who has seen that event: all changes after it as one, or everything."""
        epoch, _, number = last_id.partition("-")
        is_ours = epoch == self._epoch and number.isascii() and number.isdecimal() and len(number) < 16
        n_missed = self._number - int(number) if is_ours else -1
        if not 0 <= n_missed <= len(self._patches):
            return self.full
        texts: dict[str, str] = {}
        rows: dict[str, Sequence[Mapping[str, str]]] = {}
        for patch in list(self._patches)[len(self._patches) - n_missed :]:
            texts.update(patch.texts)
            rows.update(patch.rows)
        return self._event("patch", _Patch(texts, rows))

    def _next(self, patch: _Patch) -> Event:
        self._number += 1
        self._patches.append(patch)
        return self._event("patch", patch)

    def _event(self, kind: str, patch: _Patch) -> Event:
        texts = {name: cut(text) for name, text in patch.texts.items()}
        rows = {
            name: [{key: cut(text) for key, text in row.items()} for row in each] for name, each in patch.rows.items()
        }
        # A line end in a text is escaped in JSON, so it cannot end the line of an event.
        data = json_text({**self._about, "set": texts, "rows": rows})
        return Event(f"id: {self._epoch}-{self._number}\nevent: {kind}\ndata: {data}\n\n")


def cut(text: str) -> str:
    """A text, cut to the length that a stream allows. Path data may be longer, as a part of it would not be a path.

    >>> len(cut("x" * 1000)), len(cut("M0 1" + "L1 1" * 200)), cut("short")
    (300, 804, 'short')
    """
    if len(text) <= LONGEST_TEXT or (len(text) <= LONGEST_SHAPE and _SHAPE.fullmatch(text)):
        return text
    return f"{text[: LONGEST_TEXT - 1]}…"
