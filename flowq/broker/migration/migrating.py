"""Compares a pipeline in code with its record in Redis, and makes Redis agree with the code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flowq.broker.edges import Edges
from flowq.broker.entries import Entries
from flowq.broker.migration.changes import (
    Change,
    Changes,
    Fit,
    check_moves,
    likely_moves,
    likely_source_moves,
    target_of_move,
)
from flowq.broker.migration.moving import Moving, StillServed
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.migration.resharding import Resharding
from flowq.broker.migration.shards_change import ShardsMoved
from flowq.broker.records import DeadEntry, delayed_fields, pairs
from flowq.broker.redis_streams import Broker
from flowq.delivery.edge import Edge
from flowq.delivery.encoding.codec import decoder, schema_digest
from flowq.delivery.message import Header
from flowq.errors import BodyElsewhere, DecodeError
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.stage_types import StageTypes
from flowq.large_bodies.store import content_of

DEFAULT_SAMPLE = 1000
_PER_CALL = 200


class Migration:
    """From the recorded versions of a pipeline to the one in code."""

    def __init__(self, broker: Broker, plan: Plan) -> None:
        self._broker = broker
        self._plan = plan
        self.shards_moved = ShardsMoved()  # by `apply`

    async def changes(self, *, moves: Mapping[str, str] | None = None, sample: int = DEFAULT_SAMPLE) -> Changes:
        """Compare the plan with the edges on record; `moves` says which stages have new names, old to new.

        Reads and validates up to `sample` messages of each edge whose schema differs. Raises NotFound and UsageError
        for moves that are not possible.
        """
        moves, plan = moves or {}, self._plan
        recorded = await RecordedPlan(self._broker).edges()
        check_moves(moves, plan, recorded)
        outstanding = await self._outstanding(list(recorded.keys() | plan.edge_by_name.keys()))
        found: list[Change] = []
        for edge, record in sorted(recorded.items()):
            n = outstanding[edge]
            if edge not in plan.edge_by_name:
                to = target_of_move(edge, moves, plan) if n or moves.keys() & {*Edge.parse(edge)} else ""
                fit = await self._fit(edge, self._target(to), sample) if to and n else Fit()
                found.append(Change("moved" if to else "left", edge, n, to, fit))
            elif record.schema != schema_digest(self._target(edge).accepts):
                found.append(Change("schema", edge, n, fit=await self._fit(edge, self._target(edge), sample)))
        if recorded:
            new = plan.edge_by_name.keys() - recorded.keys()
            found += [Change("new", edge.name, outstanding[edge.name]) for edge in plan.edges if edge.name in new]
        seen_ms = max((record.seen_ms for record in recorded.values()), default=0)
        likely = likely_moves(recorded, plan, moves), likely_source_moves(recorded, plan, moves)
        shards = await Resharding(self._broker, plan).change(sample=sample)
        return Changes(plan.name, found, seen_ms, moves, *likely, shards)

    async def apply(self, changes: Changes, workers: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        """Carry out the changes; returns how many messages were moved from each edge.

        Every step is atomic and may be repeated: after an interruption, the same call does the rest. `workers` are
        those alive. Raises StillServed, before anything is changed, if one of them serves an edge that is to be moved.
        """
        record, resharding = RecordedPlan(self._broker), Resharding(self._broker, self._plan)
        moved = [change for change in changes.changes if change.kind == "moved"]
        _refuse_served([change.edge for change in moved], workers)
        await resharding.check()
        counts = Counter[str]()
        for shard in self._broker.shards:
            counts.update(await self._apply_in(shard, changes, moved))
        orphans = await record.orphans(self._plan)
        left = await self._outstanding([orphan.edge for orphan in orphans])
        for orphan in orphans:
            if not left[orphan.edge] and not _worker_of(orphan.edge, workers):
                await record.drop(orphan)
        self.shards_moved = await resharding.carry_out()
        await record.record(self._plan)
        return {change.edge: counts[change.edge] for change in moved}

    async def _apply_in(self, shard: Broker, changes: Changes, moved: Sequence[Change]) -> Counter[str]:
        """Carry out the moves in one shard; returns how many messages were moved from each edge."""
        moving = Moving(shard)
        by_stage = {
            old: {edge.edge: edge.to for edge in moved if old in Edge.parse(edge.edge)} for old in changes.moves
        }
        await Edges(shard).ensure_groups([edge.name for edge in self._plan.edges])
        for stage in {Edge.parse(change.edge).target for change in moved}:
            await moving.dequeue_all(stage, [edge.edge for edge in moved if Edge.parse(edge.edge).target == stage])
        counts = Counter({change.edge: await moving.edge(change.edge, change.to) for change in moved})
        for old, new in changes.moves.items():
            await moving.stage(old, new, by_stage[old])
        return counts

    async def _outstanding(self, edges: Sequence[str]) -> Counter[str]:
        """Messages waiting, running and delayed on each edge, in all shards."""
        counts = Counter[str]()
        for shard in self._broker.shards:
            counts.update(await Edges(shard).outstanding(edges))
        return counts

    def _target(self, edge: str) -> StagePlan:
        return self._plan.stage(Edge.parse(edge).target)

    async def _fit(self, edge: str, stage: StagePlan, sample: int) -> Fit:
        """Read messages of an edge and validate them as a worker of this version would."""
        decode_any, types = decoder(stage.accepts), StageTypes(stage, self._plan)
        looked_at, misfits, reason = 0, 0, ""
        for header, body in await self._sample(edge, sample):
            looked_at += 1
            try:
                tag, content = await self._content(header, body)
                (types.decoder(tag) or decode_any)(content)
            except BodyElsewhere:  # it cannot be read here, so it says nothing
                looked_at -= 1
            except DecodeError as error:
                misfits += 1
                reason = reason or error.detail or error.message
        return Fit(looked_at, misfits, reason)

    async def _content(self, header_bytes: bytes, body: bytes) -> tuple[str, bytes]:
        """The tag of a message, and its body as its stage would get it. Raises DecodeError."""
        try:
            header = Header.decode(header_bytes)
        except ValueError:  # added by another program
            return "", body
        return header.type_tag, await content_of(self._broker.claims, header, body)

    async def _sample(self, edge: str, most: int) -> list[tuple[bytes, bytes]]:
        """Headers and bodies of messages on an edge: in each shard the oldest, then the delayed ones due first."""
        found: list[tuple[bytes, bytes]] = []
        for shard in self._broker.shards:
            found += await _sample_of(shard, edge, most - len(found))
        return found


async def _sample_of(shard: Broker, edge: str, most: int) -> list[tuple[bytes, bytes]]:
    keys = shard.keys
    entries: list[DeadEntry] = []
    while (limit := min(_PER_CALL, most - len(entries))) > 0:
        after = entries[-1].entry_id if entries else ""
        page = await Entries(shard, keys.edge(edge)).after(after, limit=limit, bodies="all")
        entries += page
        if len(page) < limit:
            break
    found = [(entry.header, entry.body or b"") for entry in entries]
    names: Sequence[bytes] = ()
    if len(found) < most:
        names = await shard.answer(b"ZRANGE", keys.delayed(edge), 0, most - len(found) - 1)
    delayed = await shard.ask_each([(b"HGET", keys.delayed_bodies(edge), name) for name in names])
    for body in filter(None, delayed):
        values = dict(pairs(delayed_fields(body)))
        found.append((values.get(b"h", b""), values.get(b"b", b"")))
    return found


def _worker_of(edge: str, workers: Mapping[str, Mapping[str, Any]]) -> str:
    """A living worker that has the edge, "" if none has."""
    return next((name for name, facts in workers.items() if edge in facts.get("edges", ())), "")


def _refuse_served(edges: list[str], workers: Mapping[str, Mapping[str, Any]]) -> None:
    for edge in edges:
        if worker := _worker_of(edge, workers):
            raise StillServed(
                f"{edge} is still served by worker {worker}; nothing was moved",
                hint="stop the workers of the earlier version; one that was killed counts until its lease ends",
            )
