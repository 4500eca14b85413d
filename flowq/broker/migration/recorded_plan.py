"""The plan recorded in Redis: the edges of all versions of a pipeline that have run, and what they accept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from flowq.broker import scripts
from flowq.broker.edges import Edges
from flowq.broker.keys import is_edge
from flowq.broker.records import pairs
from flowq.broker.redis_streams import Broker
from flowq.delivery.edge import Edge
from flowq.delivery.encoding.codec import schema_digest, tag_of
from flowq.delivery.stored import json_object_in, moment_in, text_in, texts_in
from flowq.graph.compilation.plan import Plan


@dataclass(frozen=True, slots=True)
class RecordedEdge:
    """An edge as the last run with it described it: the types it accepts, and when that run began."""

    accepts: tuple[str, ...]
    schema: str
    seen_ms: int
    record: bytes


@dataclass(frozen=True, slots=True)
class Orphan:
    """A recorded edge that the code no longer has. Its messages stay until it is removed."""

    edge: str
    outstanding: int
    recorded: RecordedEdge


class RecordedPlan:
    """The edges on record of one pipeline."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def record(self, plan: Plan) -> Mapping[str, RecordedEdge]:
        """Record the edges of a plan at the start of a run. Returns what was recorded before."""
        described: list[str | bytes] = []
        for edge in plan.edges:
            stage = plan.stage(edge.target)
            about = {"accepts": [tag_of(type_) for type_ in stage.accepted], "schema": schema_digest(stage.accepts)}
            described += (edge.name, orjson.dumps(about))
        return await self._exchange(described)

    async def edges(self) -> Mapping[str, RecordedEdge]:
        """All edges on record, by name."""
        return await self._exchange(())

    async def _exchange(self, described: Sequence[str | bytes]) -> Mapping[str, RecordedEdge]:
        before = await self._broker.script(scripts.RECORD_PLAN, [self._broker.keys.plan], *described)
        edges = ((text_in(name), record) for name, record in pairs(before))
        return {name: recorded_edge(record) for name, record in edges if is_edge(name)}

    async def orphans(self, plan: Plan) -> list[Orphan]:
        """The edges on record that a plan does not have, by name, empty ones as well."""
        recorded = await self.edges()
        missing = sorted(recorded.keys() - plan.edge_by_name.keys())
        if not missing:
            return []
        outstanding = Counter[str]()
        for shard in self._broker.shards:
            outstanding.update(await Edges(shard).outstanding(missing))
        return [Orphan(name, outstanding[name], recorded[name]) for name in missing]

    async def drop(self, orphan: Orphan) -> bool:
        """Remove an orphan with everything on it, in every shard; False if it has changed since it was read."""
        home, *others = self._broker.shards
        if not others:
            return await _drop(home, orphan, orphan.outstanding)
        held = [(await Edges(shard).outstanding([orphan.edge]))[orphan.edge] for shard in self._broker.shards]
        if sum(held) != orphan.outstanding:
            return False
        for shard, n in zip(others, held[1:], strict=True):
            if n:
                # The script removes only what is on record. The record of shard 0 goes last: until then `gc` can go on.
                await shard.answer(b"HSET", shard.keys.plan, orphan.edge, orphan.recorded.record)
                if not await _drop(shard, orphan, n):
                    return False
        return await _drop(home, orphan, held[0])


async def _drop(broker: Broker, orphan: Orphan, outstanding: int) -> bool:
    keys = broker.keys
    names = [keys.plan, keys.stats, *keys.of_edge(orphan.edge)]
    seen = orphan.edge, Edge.parse(orphan.edge).target, orphan.recorded.record, outstanding
    return bool(await broker.script(scripts.DROP_EDGE, names, *seen))


def recorded_edge(record: bytes) -> RecordedEdge:
    """A recorded edge; without types or schema if the record cannot be read."""
    about = json_object_in(record) or {}
    schema = about.get("schema")
    accepts, seen_ms = texts_in(about.get("accepts")), moment_in(about.get("seen_ms"))
    return RecordedEdge(accepts, schema if isinstance(schema, str) else "", seen_ms, record)
