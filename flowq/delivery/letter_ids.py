"""The ids of dead and kept messages: entries of a stream, with the number of their shard where there are several."""

from __future__ import annotations

from typing import NamedTuple

from flowq.delivery.stored import is_entry_id

_LARGEST = 2**64 - 1
_OF_A_SHARD = 1 << 63
_SHARD_BITS = 6
_MOST_SHARDS = 1 << _SHARD_BITS

Packed = tuple[int, int]
"""An id as two numbers of 64 bits, in the order of ids."""


class LetterId(NamedTuple):
    """An entry of a stream, and its shard, None in a pipeline that has only one. Ordered by time, then by shard.

    >>> LetterId.parse("1700000000000-0@3"), str(LetterId(5, 1, 3)), str(LetterId(5, 1))
    (LetterId(ms=1700000000000, seq=0, shard=3), '5-1@3', '5-1')
    """

    ms: int
    seq: int
    shard: int | None = None

    @classmethod
    def parse(cls, text: str) -> LetterId:
        """The id that a text is. Raises ValueError for any other text."""
        entry, at, shard = text.partition("@")
        is_shard = shard.isascii() and shard.isdecimal() and len(shard) <= 2 and int(shard) < _MOST_SHARDS
        if not is_entry_id(entry) or (at and not is_shard):
            raise ValueError("not the id of a letter")
        ms, _, seq = entry.partition("-")
        return cls(int(ms), int(seq), int(shard) if at else None)

    @property
    def entry(self) -> str:
        """The id of the entry in the stream of its shard."""
        return f"{self.ms}-{self.seq}"

    def after_in(self, shard: int) -> str:
        """The entry of a shard after which all are later than this one; "" if all are."""
        if self.shard is None or shard <= self.shard:
            return self.entry
        if self.seq:
            return f"{self.ms}-{self.seq - 1}"
        return f"{self.ms - 1}-{_LARGEST}" if self.ms else ""

    def before_in(self, shard: int) -> str:
        """The entry of a shard before which all are earlier than this one."""
        if self.shard is None or shard >= self.shard:
            return self.entry
        return f"{self.ms}-{self.seq + 1}" if self.seq < _LARGEST else f"{self.ms + 1}-0"

    @property
    def packed(self) -> Packed:
        """The id as two numbers, for those who keep many."""
        if self.shard is None:
            return self.ms, self.seq
        return self.ms, _OF_A_SHARD | (self.seq << _SHARD_BITS | self.shard) % _OF_A_SHARD

    @classmethod
    def unpacked(cls, packed: Packed) -> LetterId:
        """The id that was packed.

        >>> [LetterId.unpacked(LetterId.parse(text).packed) == LetterId.parse(text) for text in ("5-1", "5-1@3")]
        [True, True]
        """
        ms, seq = packed
        if seq < _OF_A_SHARD:
            return cls(ms, seq)
        return cls(ms, (seq - _OF_A_SHARD) >> _SHARD_BITS, seq % _MOST_SHARDS)

    def __str__(self) -> str:
        return self.entry if self.shard is None else f"{self.entry}@{self.shard}"


def is_letter_id(text: str) -> bool:
    """Whether a text can be the id of a letter.

    >>> is_letter_id("1700000000000-0"), is_letter_id("1700000000000-0@15"), is_letter_id("5-1@64")
    (True, True, False)
    """
    try:
        LetterId.parse(text)
    except ValueError:
        return False
    return True
