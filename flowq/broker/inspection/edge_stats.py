"""Figures of the edges: how long messages have waited, which worker has how many, and their memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

from flowq.broker import scripts
from flowq.broker.client.rounds import Rounds, ScriptCall
from flowq.broker.keys import GROUP
from flowq.broker.records import pairs
from flowq.broker.redis_streams import Broker
from flowq.delivery.edge import Edge
from flowq.delivery.stored import entry_ms, moment_in, name_in, text_in

_BEGINNING_BYTES = 400
_NONE: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class EdgeStats:
    """One edge: since when its oldest message waits, when its last delayed one is due (both in ms of the server's
    clock), its memory, and how many messages each worker has."""

    waiting_since_ms: int | None
    last_due_ms: int | None
    memory_bytes: int
    held: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RunningMessage:
    """A message that was delivered to a worker: where, to which, how long ago, and how its body begins."""

    edge: str
    entry_id: str
    worker: str
    seconds: float
    message_id: str
    beginning: bytes

    @property
    def stage(self) -> str:
        return Edge.parse(self.edge).target

    def as_json(self) -> dict[str, Any]:
        """All of it but the body, ready for JSON."""
        return {
            "stage": self.stage,
            "edge": self.edge,
            "entry": self.entry_id,
            "id": self.message_id,
            "worker": self.worker,
            "seconds": self.seconds,
        }


class EdgeInspection:
    """The edges of one pipeline, to look at."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def stats(self, edges: Sequence[str]) -> Mapping[str, EdgeStats]:
        """The figures of every edge, at one instant."""
        return await self._broker.read(self.stats_reading(edges))

    def stats_reading(self, edges: Sequence[str]) -> Rounds[Mapping[str, EdgeStats]]:
        """The reading of `stats`, in one round."""
        keys = self._broker.keys
        names = [key for edge in edges for key in keys.of_edge(edge)]
        (rows,) = yield [ScriptCall(scripts.EDGE_STATS, names, (GROUP,))]
        return {
            edge: EdgeStats(
                waiting_since_ms=entry_ms(oldest) if oldest else None,
                last_due_ms=moment_in(last_due) if last_due else None,
                memory_bytes=memory_bytes,
                held={name_in(worker): n for worker, n in pairs(held)} if held else _NONE,
            )
            for edge, (oldest, last_due, memory_bytes, held) in zip(edges, rows, strict=True)
        }

    async def slowest(
        self, edges: Sequence[str], *, limit: int = 5, at_least_seconds: float = 0.5
    ) -> list[RunningMessage]:
        """The messages that have been running longest, including those that a worker has read ahead."""
        return await self._broker.read(self.slowest_reading(edges, limit=limit, at_least_seconds=at_least_seconds))

    def slowest_reading(
        self, edges: Sequence[str], *, limit: int = 5, at_least_seconds: float = 0.5
    ) -> Rounds[list[RunningMessage]]:
        """The reading of `slowest`, in one round."""
        names = [self._broker.keys.edge(edge) for edge in edges]
        shortest_ms = round(at_least_seconds * 1000)
        (rows,) = yield [ScriptCall(scripts.SLOWEST, names, (GROUP, limit, shortest_ms, _BEGINNING_BYTES))]
        return [
            RunningMessage(
                edge=edges[number - 1],
                entry_id=text_in(entry_id),
                worker=text_in(worker),
                seconds=ms / 1000,
                message_id=text_in(header.partition(b" ")[0]),
                beginning=body,
            )
            for number, entry_id, worker, ms, header, body in cast(
                "list[tuple[int, bytes, bytes, int, bytes, bytes]]", rows
            )
        ]
