"""Truncates an incomplete command or transaction at the end of a Redis log before the next server reads it.

A server that finds such an end truncates the log after the last complete command. If that is inside a transaction, the
transaction stays open: later commands are appended to it, and the next server applies half of it. So flowq makes its
server refuse such a log (`aof-load-truncated no`), and truncates it before the transaction.

Imports little and nothing of flowq: the watchdog of a server loads it by its path.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable
from pathlib import Path

_LONGEST_HEAD = 32
_BYTES_PER_PROGRESS = 4_000_000


def repair(folder: Path, on_progress: Callable[[], None] = lambda: None) -> int:
    """Truncate the last log of a data folder after its last complete step; return the number of bytes removed.

    Returns 0 and changes nothing when the log is complete or damaged in another way. A large log takes seconds:
    `on_progress` is called every few megabytes.
    """
    log = last_log(folder)
    if log is None:
        return 0
    descriptor = os.open(log, os.O_RDWR | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        if not size:
            return 0
        with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as content:
            end = end_of_last_step(content, on_progress)
        if end is None or end == size:
            return 0
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
        return size - end
    finally:
        os.close(descriptor)


def last_log(folder: Path) -> Path | None:
    """The log that the server of a data folder last appended to; None if there is none."""
    logs = folder / "appendonlydir"
    try:
        lines = (logs / "appendonly.aof.manifest").read_text().splitlines()
    except FileNotFoundError:
        return None  # a new folder, or that of a Redis before 7
    names = [words[1] for words in map(str.split, lines) if len(words) >= 6 and words[5] == "i"]
    return logs / Path(names[-1]).name if names else None


def end_of_last_step(log: bytes | mmap.mmap, on_progress: Callable[[], None] = lambda: None) -> int | None:
    """The end of the last complete command or transaction; None if this is not a log.

    >>> whole = b"*2\\r\\n$4\\r\\nINCR\\r\\n$1\\r\\nn\\r\\n"
    >>> end_of_last_step(whole + b"*1\\r\\n$5\\r\\nMULTI\\r\\n" + whole) == len(whole)
    True
    """
    at, end_of_step, is_open, end, told = 0, 0, False, len(log), 0
    while at < end:
        if at - told > _BYTES_PER_PROGRESS:
            told = at
            on_progress()
        behind = _end_of_command(log, at)
        if behind is None:
            return end_of_step if _is_cut(log, at, end) else None
        if found := _ENDS_OR_OPENS(log, at):
            is_open = found[1].upper() == b"MULTI"
        at = behind
        if not is_open:
            end_of_step = at
    return end_of_step


_COUNT = re.compile(rb"\*([0-9]{1,10})").match
_VALUE = re.compile(rb"\r\n\$([0-9]{1,10})\r\n").match
_ENDS_OR_OPENS = re.compile(rb"(?i)\*1\r\n\$[45]\r\n(MULTI|EXEC)\r\n").match
_TIMESTAMP = re.compile(rb"#[^\r\n]*\r?\n").match


def _end_of_command(log: bytes | mmap.mmap, at: int) -> int | None:
    """The end of the command that begins here; None if there is no complete one."""
    count = _COUNT(log, at)
    if count is None:
        note = _TIMESTAMP(log, at)
        return note and note.end()
    at = count.end()
    for _ in range(int(count[1])):
        value = _VALUE(log, at)
        if value is None:
            return None
        at = value.end() + int(value[1])
    return at + 2 if log[at : at + 2] == b"\r\n" else None


def _is_cut(log: bytes | mmap.mmap, at: int, end: int) -> bool:
    """Whether the rest of the log is the beginning of a command.

    After a power loss, zeros may follow it.
    """
    while end > at and not log[end - 1]:
        end -= 1
    while at < end:
        newline = log.find(b"\r\n", at, min(at + _LONGEST_HEAD, end))
        head = log[at : newline if newline >= 0 else end].removesuffix(b"\r")
        if head[:1] not in (b"*", b"$") or (head[1:] and not head[1:].isdigit()) or len(head) > _LONGEST_HEAD:
            return False
        if newline < 0:
            return True
        at = newline + 2
        if head[:1] == b"$":
            at += int(head[1:]) + 2
            if at <= end and log[at - 2 : at] != b"\r\n":
                return False
    return True
