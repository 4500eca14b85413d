"""What a request to Redis means: its name, the stage it is about, and the messages in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import hiredis

from flowq.delivery.edge import Edge
from flowq.testing.simulation.virtual_scripts import script_of

Command = list[bytes]

_EDGE = b":edge:"
_NAMES = {"publish_plain": "publish", "publish_out": "publish", "settle_out": "settle", "register": "renew"}
_MOVING = ("settle", "publish", "apply")
_PROGRESS = frozenset(("settle", "publish", "apply", "start_run", "finish", "hold"))
_OUTCOMES = {b"D": "retried", b"P": "delayed", b"Q": "queued", b"R": "released", b"X": "dead"}
_SETTLE_STAGE, _SETTLE_N_DONE = 4, 8  # among the arguments of settle.lua
_SETTLE_STREAM = 2  # among its keys


@dataclass(slots=True)
class RedisCall:
    """One request of one worker, with one command or several.

    `name`: "read", "pending", "settle", "publish", "renew", or that of the script or the command. `streams`: the edges
    that it names, as keys. `script`: the name of the script that it runs, if any.
    """

    worker: str
    name: str
    stage: str
    streams: tuple[bytes, ...]
    commands: list[Command]
    script: str = ""

    @property
    def moves_messages(self) -> bool:
        """Whether it settles, publishes or applies. Faults count these calls: background polls would shift them."""
        return self.name in _MOVING

    @property
    def is_progress(self) -> bool:
        """Whether it is more than the poll of a background task, whatever its answer."""
        return self.name in _PROGRESS


def parse_request(request: bytes, n_commands: int) -> list[Command]:
    """The commands of a packed request."""
    reader = hiredis.Reader()
    reader.feed(request)
    return [reader.gets() for _ in range(n_commands)]


def call_of(worker: str, commands: list[Command]) -> RedisCall:
    """What a request is about: the first of its commands that runs a script or reads, otherwise its first command."""
    for command in commands:
        if (script := script_of(command)) is not None:
            name, keys = _NAMES.get(script.name, script.name), _keys_of(command)
            streams = tuple(key for key in keys if _EDGE in key)
            if name == "settle":
                stage = command[3 + len(keys) + _SETTLE_STAGE].decode()
            else:
                stage = stage_of(streams[0]) if streams else ""
            return RedisCall(worker, name, stage, streams, commands, script.name)
    command = commands[0]
    if command[0] == b"XREADGROUP":
        read, ids = streams_of(command)
        return RedisCall(worker, "read" if ids[0] == b">" else "pending", stage_of(read[0]), tuple(read), commands)
    streams = tuple(word for word in command[1:3] if _EDGE in word)
    return RedisCall(worker, command[0].decode().lower(), stage_of(streams[0]) if streams else "", streams, commands)


def _keys_of(command: Command) -> list[bytes]:
    return command[3 : 3 + int(command[2])]


def streams_of(command: Command) -> tuple[list[bytes], list[bytes]]:
    """The streams of an XREADGROUP, and the id after which each is read."""
    at = command.index(b"STREAMS") + 1
    n = (len(command) - at) // 2
    return command[at : at + n], command[at + n :]


def without_block(command: Command) -> tuple[Command, int | None]:
    """An XREADGROUP that does not wait, and for how many milliseconds it would have; None if it does not block."""
    at_streams = command.index(b"STREAMS")
    if b"BLOCK" not in command[4:at_streams]:
        return command, None
    at = command.index(b"BLOCK", 4, at_streams)
    return command[:at] + command[at + 2 :], int(command[at + 1])


@lru_cache(maxsize=4096)
def edge_of(stream: bytes) -> str:
    """The name of an edge whose key this is."""
    return stream.partition(_EDGE)[2].decode()


@lru_cache(maxsize=4096)
def shard_of(key: bytes) -> int:
    """The number of the shard that a key is in."""
    _, _, number = key.partition(b"{")[2].partition(b"}")[0].partition(b".")
    return int(number.partition(b".")[0] or 0)


@lru_cache(maxsize=4096)
def stage_of(stream: bytes) -> str:
    """The stage that reads it."""
    return Edge.parse(edge_of(stream)).target


class Messages:
    """Which entry is which message: learned from reads, and looked up in settlements."""

    def __init__(self) -> None:
        self._ids: dict[tuple[bytes, bytes], str] = {}  # by stream and entry

    def in_read(self, reply: Any) -> tuple[str, ...]:
        """The ids of the messages that a read has returned. An entry of another program has its own id."""
        found: list[str] = []
        for stream, entries in reply or ():
            for entry_id, fields in entries:
                name = self._ids[stream, entry_id] = _message_id(fields) or entry_id.decode()
                found.append(name)
        return tuple(found)

    def in_settlement(self, call: RedisCall) -> tuple[tuple[str, ...], str]:
        """The ids of the messages that a call settles, and what happens to them, for people."""
        found: list[str] = []
        outcomes: dict[str, int] = {}
        for command in call.commands:
            if (script := script_of(command)) is None or _NAMES.get(script.name, script.name) != "settle":
                continue
            arguments = command[3 + int(command[2]) :]
            stream, n_left = command[3 + _SETTLE_STREAM], int(arguments[_SETTLE_N_DONE])
            for position, word in enumerate(arguments):
                if (name := self._ids.get((stream, word))) is None:
                    continue
                outcome = "done" if n_left > 0 else _OUTCOMES.get(arguments[position + 1], "settled")
                n_left -= 1
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
                found.append(name)
        return tuple(found), ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items())


def _message_id(fields: Sequence[bytes] | None) -> str:
    for name, value in zip((fields or ())[::2], (fields or ())[1::2], strict=False):
        if name == b"h":
            return value.partition(b" ")[0].decode(errors="replace")
    return ""
