"""How far a file has been read, and whether it is still the same file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from zlib import crc32

HEAD_BYTES = 1024

_SETTLED_AFTER_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Position:
    """The end of a row: the next one begins at `offset`, in bytes as they are read, after `line` lines.

    `content` is a checksum of everything before it, `head` of the first bytes, at most HEAD_BYTES. `stat` is that of
    the whole file on disk, "" if it proves nothing. `is_end`: the file had been read to its end.
    """

    offset: int
    line: int
    content: int
    head: int
    stat: str = ""
    is_end: bool = False

    @property
    def head_bytes(self) -> int:
        """How many bytes `head` covers."""
        return min(self.offset, HEAD_BYTES)

    def begins_like(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes may be the one that this position is in."""
        return len(head) >= self.head_bytes and crc32(head[: self.head_bytes]) == self.head


def stat_word(stat: os.stat_result, now_ns: int) -> str:
    """Changes whenever a file changes, without reading it; "" for one that has just been written.

    The clock of a file system is coarse: a file that is written twice within one of its ticks keeps its times.
    """
    if now_ns - max(stat.st_mtime_ns, stat.st_ctime_ns) < _SETTLED_AFTER_NS:
        return ""
    return f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ctime_ns}-{stat.st_ino}"
