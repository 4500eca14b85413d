"""Cuts what was never completed off the end of a Redis log, before the next server reads it.

A server that meets such an end by itself cuts behind the last whole command. Where that lies within a transaction, the
transaction stays open: what is appended later lands inside, and the server after that applies the half of it. So flowq
has its server refuse such a log (`aof-load-truncated no`), and cuts it in front of the transaction.

Imports little and nothing of flowq: the warden of a server loads it by its path.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable
from pathlib import Path

_LONGEST_HEAD = 32
_BYTES_BETWEEN_WORDS = 4_000_000


def repair(folder: Path, going_on: Callable[[], None] = lambda: None) -> int:
    """Cut the last log of a data folder behind its last whole step; how many bytes were cut off.

    0 when there is nothing to cut, and when the damage is of another kind: then nothing is changed. A large log takes
    seconds: `going_on` is called now and then.
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
            end = end_of_last_step(content, going_on)
        if end is None or end == size:
            return 0
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
        return size - end
    finally:
        os.close(descriptor)


def last_log(folder: Path) -> Path | None:
    """The log to which the server of a data folder appended last; None where there is none."""
    logs = folder / "appendonlydir"
    try:
        lines = (logs / "appendonly.aof.manifest").read_text().splitlines()
    except FileNotFoundError:
        return None  # a new folder, or that of a Redis before 7
    names = [words[1] for words in map(str.split, lines) if len(words) >= 6 and words[5] == "i"]
    return logs / Path(names[-1]).name if names else None


def end_of_last_step(log: bytes | mmap.mmap, going_on: Callable[[], None] = lambda: None) -> int | None:
    """Where the last command or transaction that is whole ends; None for what cannot be read as a log.

    >>> whole = b"*2\\r\\n$4\\r\\nINCR\\r\\n$1\\r\\nn\\r\\n"
    >>> end_of_last_step(whole + b"*1\\r\\n$5\\r\\nMULTI\\r\\n" + whole) == len(whole)
    True
    """
    at, end_of_step, is_open, end, told = 0, 0, False, len(log), 0
    while at < end:
        if at - told > _BYTES_BETWEEN_WORDS:
            told = at
            going_on()
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
_NOTE_OF_THE_TIME = re.compile(rb"#[^\r\n]*\r?\n").match


def _end_of_command(log: bytes | mmap.mmap, at: int) -> int | None:
    """Where the command that begins here ends; None if that is not to be found."""
    count = _COUNT(log, at)
    if count is None:
        note = _NOTE_OF_THE_TIME(log, at)
        return note and note.end()
    at = count.end()
    for _ in range(int(count[1])):
        value = _VALUE(log, at)
        if value is None:
            return None
        at = value.end() + int(value[1])
    return at + 2 if log[at : at + 2] == b"\r\n" else None


def _is_cut(log: bytes | mmap.mmap, at: int, end: int) -> bool:
    """Whether what cannot be read as a command is the beginning of one, and not something else.

    A machine that has lost its power may have left zeros where the rest should be.
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
