"""What a page has shown in the last hour, for its slider: compressed, and only what has changed."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from flowq.printable import json_text

EVERY_MS = 5_000
_IN_A_GROUP = 12


@dataclass(slots=True)
class _Group:
    """A minute: everything of its first moment, then what differs from the moment before."""

    at_ms: list[int] = field(default_factory=list[int])
    packed: list[bytes] = field(default_factory=list[bytes])


class Moments:
    """The texts of a page every five seconds, for `kept_seconds` at least."""

    def __init__(self, kept_seconds: float) -> None:
        self._kept_ms = int(kept_seconds * 1000)
        self._groups: deque[_Group] = deque()
        self._last: Mapping[str, str] = {}

    def add(self, at_ms: int, texts: Mapping[str, str]) -> None:
        """Keep a moment, unless the last one is less than five seconds old."""
        group = self._groups[-1] if self._groups else None
        if group and at_ms < group.at_ms[-1]:  # the clock of Redis was set back, and with it the slider
            self._groups.clear()
            group = None
        if group and at_ms - group.at_ms[-1] < EVERY_MS:
            return
        if group is None or len(group.at_ms) == _IN_A_GROUP or texts.keys() != self._last.keys():
            self._groups.append(group := _Group())
            changed = texts
        else:
            changed = {name: text for name, text in texts.items() if self._last[name] != text}
        group.at_ms.append(at_ms)
        group.packed.append(zlib.compress(json_text(changed).encode(), 4))
        self._last = texts
        while self._groups[0].at_ms[-1] < at_ms - self._kept_ms:
            self._groups.popleft()

    def at(self, at_ms: int) -> tuple[int, dict[str, str]] | None:
        """The last moment up to then, or else the first one, with its texts; None if nothing has been kept."""
        if not self._groups:
            return None
        starts = [group.at_ms[0] for group in self._groups]
        group = self._groups[max(0, bisect_right(starts, at_ms) - 1)]
        index = max(0, bisect_right(group.at_ms, at_ms) - 1)
        texts: dict[str, str] = {}
        for packed in group.packed[: index + 1]:
            texts.update(orjson.loads(zlib.decompress(packed)))
        return group.at_ms[index], texts

    @property
    def since_ms(self) -> int | None:
        """The first moment."""
        return self._groups[0].at_ms[0] if self._groups else None
