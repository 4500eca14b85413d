"""Reads the buckets in which a stage keeps what it has seen: see `parts/seen.lua`. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

_ABOUT = re.compile(rb"(\d+) (\d+) (\d+) ([01])(?: (\d+) (\d+) (\d+))?")
_TIMES_BYTES, _UNITS_BYTES = 7, 2


@dataclass(frozen=True, slots=True)
class SeenForm:
    """How the values of one stage in one shard are packed.

    A bucket stores the first bytes of its values: the rest follows from its number. `until_ms`: when the last value
    expires, by a clock that is `set_back_ms` ahead; None if none does, or while there is something unpacked.
    """

    n_bytes: int
    n_buckets: int
    n_values: int
    set_back_ms: int
    until_ms: int | None
    is_timed: bool

    @classmethod
    def parse(cls, about: bytes, *, is_timed: bool) -> SeenForm | None:
        """None for what flowq did not write.

        >>> SeenForm.parse(b"10 3 40 0", is_timed=False)
        SeenForm(n_bytes=10, n_buckets=3, n_values=40, set_back_ms=0, until_ms=None, is_timed=False)
        """
        found = _ABOUT.fullmatch(about)
        if found is None or is_timed != (found[5] is not None):
            return None
        until_ms = int(found[6]) if is_timed and found[4] == b"0" else None
        return cls(int(found[1]), int(found[2]), int(found[3]), int(found[5] or 0), until_ms, is_timed)

    def has_expired(self, now_ms: int) -> bool:
        """Whether all of its values have: the next call of a script removes them, and this form with them."""
        return self.until_ms is not None and self.until_ms <= now_ms + self.set_back_ms

    def _stored(self, bucket: int) -> int:
        """How many bytes of a value a bucket stores."""
        level: int = self.n_buckets.bit_length() - 1
        half = 1 << level
        is_split = bucket < self.n_buckets - half or bucket >= half
        return self.n_bytes - (level + is_split) // 8

    def split(self, bucket: int, text: bytes, shard_of: Callable[[bytes], int | None], here: int) -> Split:
        """What of a bucket lives in which other shard, and what remains. `shard_of`: None for a value that stays."""
        first, n_tail = (_TIMES_BYTES, _UNITS_BYTES) if self.is_timed else (0, 0)
        n_stored = self._stored(bucket)
        rest = bucket.to_bytes(8)[8 - (self.n_bytes - n_stored) :] if n_stored < self.n_bytes else b""
        times, remaining, n_gone = text[:first], [text[:first]], 0
        texts: defaultdict[int, list[bytes]] = defaultdict(list)
        width = n_stored + n_tail
        for at in range(first, len(text) - width + 1, width):
            value, tail = text[at : at + n_stored] + rest, text[at + n_stored : at + width]
            shard = shard_of(value)
            if shard is None or shard == here:
                remaining.append(text[at : at + width])
                continue
            texts[shard].append(value + tail)
            n_gone += 1
        left = b"".join(remaining) if len(remaining) > 1 else b""
        return Split({shard: times + b"".join(values) for shard, values in texts.items()}, left, n_gone)

    def values(self, bucket: int, text: bytes) -> list[bytes]:
        """The values in a bucket, with all of their bytes."""
        whole = self.whole(bucket, text)
        first, n_tail = (_TIMES_BYTES, _UNITS_BYTES) if self.is_timed else (0, 0)
        return [whole[at : at + self.n_bytes] for at in range(first, len(whole), self.n_bytes + n_tail)]

    def shortened(self, bucket: int, text: bytes, n_bytes: int) -> tuple[int, bytes]:
        """How many values a bucket has, and the same with no more than the first `n_bytes` of each."""
        whole = self.whole(bucket, text)
        first, n_tail = (_TIMES_BYTES, _UNITS_BYTES) if self.is_timed else (0, 0)
        starts = range(first, len(whole), self.n_bytes + n_tail)
        values = [whole[at : at + min(n_bytes, self.n_bytes)] + whole[at + self.n_bytes :][:n_tail] for at in starts]
        return len(values), whole[:first] + b"".join(values)

    def whole(self, bucket: int, text: bytes) -> bytes:
        """A bucket with all bytes of its values."""
        return self.split(bucket, text, lambda _: -1, 0).texts.get(-1, b"")


@dataclass(frozen=True, slots=True)
class Split:
    """A bucket, divided: by other shard, its values there with all of their bytes; and what remains."""

    texts: dict[int, bytes]
    left: bytes
    n_gone: int
