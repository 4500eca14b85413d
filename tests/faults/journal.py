"""Reads what Redis itself wrote down: the append-only file, and in it the whole life of every message.

Redis logs the effects of a script as one transaction, with the ids it gave. So the file tells which messages were
appended to which edge, how often, and whether one was ever in two places: nothing of flowq's is asked.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import hiredis

Command = list[bytes]
Place = tuple[bytes, bytes]
"""A stream and an entry id, or a hash of delayed messages and a field."""

_PATH = re.compile(rb'"path":"([^"]*)"')


@dataclass
class Journal:
    """What became of the messages, by edge and lineage."""

    births: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """How many different messages of one lineage an edge was given: one is right."""
    doubled: set[str] = field(default_factory=set[str])
    """Messages that were in two places at once, or came back after they had been settled."""
    left: set[str] = field(default_factory=set[str])
    """Messages that are still in a stream or delayed."""
    transactions: int = 0
    holds: list[tuple[str, float, float]] = field(default_factory=list[tuple[str, float, float]])
    """Pacing keys that were held: the key, and the seconds of beginning and end."""


def read_journal(file: Path) -> Journal:
    """The journal of a server whose append-only file was never rewritten."""
    return _Replay().of(transactions_of(file.read_bytes()))


def transactions_of(aof: bytes) -> Iterator[list[Command]]:
    """The commands that took effect together."""
    reader = hiredis.Reader()
    reader.feed(aof)
    together: list[Command] | None = None
    while isinstance(command := reader.gets(), list):
        match command[0].upper():
            case b"MULTI":
                together = []
            case b"EXEC":
                yield together or []
                together = None
            case _ if together is not None:
                together.append(command)
            case _:
                yield [command]


class _Replay:
    def __init__(self) -> None:
        self._message_at: dict[Place, bytes] = {}
        self._entries: defaultdict[bytes, deque[bytes]] = defaultdict(deque)
        self._places: defaultdict[bytes, set[Place]] = defaultdict(set)
        self._known: set[tuple[str, str, bytes]] = set()
        self._settled: set[bytes] = set()
        self._journal = Journal()

    def of(self, transactions: Iterator[list[Command]]) -> Journal:
        journal = self._journal
        for commands in transactions:
            journal.transactions += 1
            journal.holds += _holds_in(commands)
            touched = {message for command in commands for message in self._apply(command)}
            for message in touched:
                places = self._places[message]
                if len(places) > 1 or (places and message in self._settled):
                    journal.doubled.add(message.decode())
                if not places:
                    self._settled.add(message)
        journal.left = {message.decode() for message, places in self._places.items() if places}
        journal.births.update((edge, path) for edge, path, _ in self._known)
        return journal

    def _apply(self, command: Command) -> list[bytes]:
        name, key, *rest = command if len(command) > 1 else [*command, b""]
        kind = _kind_of(key)
        match name.upper():
            case b"XADD" if kind == b"edge":
                entry_id, fields = rest[0], dict(zip(rest[1::2], rest[2::2], strict=True))
                self._entries[key].append(entry_id)
                return [self._put((key, entry_id), key, fields[b"h"], fields[b"b"])]
            case b"HSET" if kind == b"parked":
                held = zip(rest[::2], rest[1::2], strict=True)
                return [self._put((key, name), key, *value.split(b"\n", 1)) for name, value in held]
            case b"XDEL" if kind == b"edge":
                return self._take([(key, entry_id) for entry_id in rest])
            case b"XTRIM" if kind == b"edge":
                assert rest[0].upper() == b"MINID", "how many of the others are older is not known here"
                return self._take(self._below(key, rest[-1]))
            case b"HDEL" if kind == b"parked":
                return self._take([(key, name) for name in rest])
            case _:
                return []

    def _put(self, place: Place, key: bytes, header: bytes, body: bytes) -> bytes:
        message = header.partition(b" ")[0]
        found = _PATH.search(body)
        path = found[1].decode() if found else ""
        self._known.add((_edge_of(key), path, message))
        self._message_at[place] = message
        self._places[message].add(place)
        return message

    def _below(self, stream: bytes, entry_id: bytes) -> list[Place]:
        """The entries of a stream that come before an id: Redis adds them in the order of their ids."""
        entries, least, below = self._entries[stream], _numbers(entry_id), list[Place]()
        while entries and _numbers(entries[0]) < least:
            below.append((stream, entries.popleft()))
        return below

    def _take(self, places: list[Place]) -> list[bytes]:
        taken: list[bytes] = []
        for place in places:
            message = self._message_at.pop(place, None)
            if message is not None:
                self._places[message].discard(place)
                taken.append(message)
        return taken


def _holds_in(commands: list[Command]) -> Iterator[tuple[str, float, float]]:
    """A hold is written as its end and how long it lasts, in milliseconds."""
    until = {c[3]: float(c[2]) / 1000 for c in commands if c[0].upper() == b"ZADD" and _kind_of(c[1]) == b"held"}
    for command in commands:
        if command[0].upper() == b"HSET" and _kind_of(command[1]) == b"holds" and command[2] in until:
            lasts = float(command[3].split()[0]) / 1000
            yield command[2].decode(), until[command[2]] - lasts, until[command[2]]


def _kind_of(key: bytes) -> bytes:
    """`edge` of `flowq:{storm}:edge:fetch>parse`."""
    parts = key.split(b":", 3)
    return parts[2] if len(parts) == 4 else b""


def _numbers(entry_id: bytes) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split(b"-")))


def _edge_of(key: bytes) -> str:
    return key.split(b":", 3)[3].decode()
