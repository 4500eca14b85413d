"""How far a file has been read, and whether it is still the same file."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

HEAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Position:
    """Behind a row: the next begins at `offset`, in bytes as they are read, after `line` lines.

    `head` tells the file from another one of the same name: a checksum of its first bytes, no more than have been read.
    `size` is that of the whole file, on disk, when its end had been reached; 0 before.
    """

    offset: int
    line: int
    head: int
    size: int = 0

    @property
    def head_bytes(self) -> int:
        """How many bytes `head` is about."""
        return min(self.offset, HEAD_BYTES)

    def is_in(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes is the one that this position was in."""
        return len(head) >= self.head_bytes and crc32(head[: self.head_bytes]) == self.head
