"""Connections that record the calls of scripts, and the keys of a pipeline with their contents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import hiredis

from flowq.broker import scripts
from flowq.broker.client.connection import Dialer
from flowq.broker.keys import GROUP, Keys
from flowq.broker.records import pairs
from flowq.broker.scripts import Script
from tests.conformance.conftest import Command


class Call(NamedTuple):
    """One call of a script: the command and the answer."""

    command: Sequence[bytes]
    answer: Any


@dataclass
class Recorder:
    """Connections to a server that record the calls of scripts, and how often something was sent."""

    dialer: Dialer
    calls: list[Call] = field(default_factory=list[Call])
    n_sent: int = 0

    def __post_init__(self) -> None:
        self.url, self.address, self.is_private = self.dialer.url, self.dialer.address, self.dialer.is_private

    async def dial(self) -> Any:
        return _Recorded(await self.dialer.dial(), self)

    def first(self, script: Script) -> Call:
        """The first call of a script that changed something."""
        found = [call for call in self.calls if call.command[1] in (script.digest, script.text)]
        return found[1 if script is scripts.FOLLOW_CLOCK else 0]  # its first call only reads the clock


class _Recorded:
    """A connection as flowq uses one."""

    def __init__(self, connection: Any, recorder: Recorder) -> None:
        self._connection, self._recorder = connection, recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def ask(self, request: bytes, n_replies: int, **options: Any) -> list[Any]:
        self._recorder.n_sent += 1
        answers: list[Any] = await self._connection.ask(request, n_replies, **options)
        reader = hiredis.Reader()
        reader.feed(request)
        calls = [Call(reader.gets(), answer) for answer in answers]
        scripts_run = (b"EVAL", b"EVALSHA")
        self._recorder.calls += [
            call for call in calls if call.command[0] in scripts_run and not isinstance(call.answer, Exception)
        ]
        return answers


async def keyspace(redis: Command, keys: Keys) -> Mapping[bytes, Any]:
    """Every key of the pipeline with its value, without idle and expiry times."""
    found: dict[bytes, Any] = {}
    for key in sorted(await redis(b"KEYS", keys.all)):
        match await redis(b"TYPE", key):
            case b"string":
                found[key] = await redis(b"GET", key)
            case b"hash":
                found[key] = dict(pairs(await redis(b"HGETALL", key)))
            case b"set":
                found[key] = set(await redis(b"SMEMBERS", key))
            case b"zset":
                found[key] = dict(pairs(await redis(b"ZRANGE", key, 0, -1, b"WITHSCORES")))
            case _:
                groups = [dict(pairs(group)) for group in await redis(b"XINFO", b"GROUPS", key)]
                pending: Sequence[Any] = await redis(b"XPENDING", key, GROUP, b"-", b"+", 1000) if groups else ()
                found[key] = (
                    await redis(b"XRANGE", key, b"-", b"+"),
                    [(group[b"name"], group[b"consumers"], group[b"last-delivered-id"]) for group in groups],
                    [(entry_id, consumer, times) for entry_id, consumer, _, times in pending],
                )
    return found
