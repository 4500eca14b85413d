"""Compares a pipeline in code with its record in Redis, and says what that means for its messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from flowq.broker.edges import Edges
from flowq.broker.entries import Entries
from flowq.broker.migration.recorded_plan import RecordedEdge, recorded_plan
from flowq.broker.records import DeadEntry, delayed_fields, pairs
from flowq.broker.redis_streams import Broker
from flowq.delivery.edge import Edge, inlet_of
from flowq.delivery.encoding.codec import decoder, schema_digest
from flowq.delivery.message import Header
from flowq.errors import BodyElsewhere, DecodeError, UsageError
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.stage_types import StageTypes
from flowq.large_bodies.store import content_of

DEFAULT_SAMPLE = 1000
_PER_CALL = 200


@dataclass(frozen=True, slots=True)
class Fit:
    """How many of the messages examined their stage no longer accepts, and what is wrong with the first of them."""

    looked_at: int = 0
    misfits: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One edge that differs. `kind` is "new", "left", "moved" or "schema"; `to` is where its messages go.

    "left" is an edge that the code no longer has, and that no move names.
    """

    kind: str
    edge: str
    messages: int = 0
    to: str = ""
    fit: Fit = Fit()

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Changes:
    """All differences. `seen_ms` is when the last run began, 0 if there was none; `likely` are moves that would fit:
    stages that accept the same messages, and the only source removed with the only one added.
    """

    pipeline: str
    changes: Sequence[Change]
    seen_ms: int
    moves: Mapping[str, str]
    likely: Mapping[str, str]
    likely_sources: Mapping[str, str]

    @property
    def misfits(self) -> int:
        return sum(change.fit.misfits for change in self.changes)

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        seen = datetime.fromtimestamp(self.seen_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return {
            "pipeline": self.pipeline,
            "recorded_at": seen if self.seen_ms else None,
            "likely_moves": {**self.likely, **self.likely_sources},
            "changes": [change.as_json() for change in self.changes],
        }


async def changes_of(
    broker: Broker, plan: Plan, *, moves: Mapping[str, str] | None = None, sample: int = DEFAULT_SAMPLE
) -> Changes:
    """Compare a plan with the edges on record; `moves` says which stages have new names, old to new.

    Reads and validates up to `sample` messages of each edge whose schema differs. Raises NotFound and UsageError for
    moves that are not possible.
    """
    moves = moves or {}
    recorded = await recorded_plan(broker)
    _check(moves, plan, recorded)
    outstanding = await Edges(broker).outstanding(list(recorded.keys() | plan.edge_by_name.keys()))
    found: list[Change] = []
    for edge, record in sorted(recorded.items()):
        n = outstanding[edge]
        if edge not in plan.edge_by_name:
            to = target_of_move(edge, moves, plan)
            fit = await _fit(broker, edge, _target(plan, to), plan, sample) if to and n else Fit()
            found.append(Change("moved" if to else "left", edge, n, to, fit))
        elif record.schema != schema_digest(_target(plan, edge).accepts):
            found.append(Change("schema", edge, n, fit=await _fit(broker, edge, _target(plan, edge), plan, sample)))
    if recorded:
        found += [Change("new", edge.name, outstanding[edge.name]) for edge in plan.edges if edge.name not in recorded]
    seen_ms = max((record.seen_ms for record in recorded.values()), default=0)
    likely = _likely(recorded, plan, moves), _likely_sources(recorded, plan, moves)
    return Changes(plan.name, found, seen_ms, moves, *likely)


def target_of_move(edge: str, moves: Mapping[str, str], plan: Plan) -> str:
    """The edge that replaces one that is gone, "" if none does."""
    origin, target = Edge.parse(edge)
    if not {origin, target} & moves.keys():
        return ""
    new_origin, new_target = moves.get(origin, origin), moves.get(target, target)
    for name in (f"{new_origin}>{new_target}", inlet_of(new_target)):
        if name in plan.edge_by_name:
            return name
    return ""


def _check(moves: Mapping[str, str], plan: Plan, recorded: Collection[str]) -> None:
    sources = _sources_among(recorded)
    for old, new in moves.items():
        if old in plan.stage_by_name:
            raise UsageError(f'--move {old}={new}: "{old}" is still in the code, so nothing has replaced it')
        if plan.stage(new).is_source and inlet_of(old) in recorded:
            raise UsageError(f'--move {old}={new}: "{new}" is a source and accepts no messages')
        if old in sources and not plan.stage(new).is_source:
            raise UsageError(f'--move {old}={new}: "{old}" was a source, but "{new}" is not')


def _likely(recorded: Mapping[str, RecordedEdge], plan: Plan, moves: Mapping[str, str]) -> dict[str, str]:
    """Stages that are gone, each with the only new stage that accepts the same messages."""
    before = {edge[1:]: record for edge, record in recorded.items() if edge.startswith(">")}
    gone = {name: record for name, record in before.items() if name not in plan.stage_by_name and name not in moves}
    new = {stage.name: schema_digest(stage.accepts) for stage in plan.consumers if stage.name not in before}
    likely: dict[str, str] = {}
    for name, record in gone.items():
        alike = [stage for stage, schema in new.items() if schema == record.schema and stage not in likely.values()]
        if len(alike) == 1:
            likely[name] = alike[0]
    return likely


def _likely_sources(recorded: Collection[str], plan: Plan, moves: Mapping[str, str]) -> dict[str, str]:
    """The source that is gone with the new one, if there is one of each."""
    before = _sources_among(recorded)
    gone = [name for name in before if name not in plan.stage_by_name and name not in moves]
    new = [source.name for source in plan.sources if source.name not in before and source.name not in moves.values()]
    return {gone[0]: new[0]} if len(gone) == len(new) == 1 else {}


def _sources_among(recorded: Collection[str]) -> list[str]:
    """The origins on record that are no target of any edge."""
    origins = {Edge.parse(edge).origin for edge in recorded} - {""}
    return sorted(origin for origin in origins if inlet_of(origin) not in recorded)


def _target(plan: Plan, edge: str) -> StagePlan:
    return plan.stage(Edge.parse(edge).target)


async def _fit(broker: Broker, edge: str, stage: StagePlan, plan: Plan, sample: int) -> Fit:
    """Read messages of an edge and validate them as a worker of this version would."""
    decode_any, types = decoder(stage.accepts), StageTypes(stage, plan)
    looked_at, misfits, reason = 0, 0, ""
    for header, body in await _sample(broker, edge, sample):
        looked_at += 1
        try:
            tag, content = await _content(broker, header, body)
            (types.decoder(tag) or decode_any)(content)
        except BodyElsewhere:  # it cannot be read here, so it says nothing
            looked_at -= 1
        except DecodeError as error:
            misfits += 1
            reason = reason or error.detail or error.message
    return Fit(looked_at, misfits, reason)


async def _content(broker: Broker, header_bytes: bytes, body: bytes) -> tuple[str, bytes]:
    """The tag of a message, and its body as its stage would get it. Raises DecodeError."""
    try:
        header = Header.decode(header_bytes)
    except ValueError:  # added by another program
        return "", body
    return header.type_tag, await content_of(broker.claims, header, body)


async def _sample(broker: Broker, edge: str, most: int) -> list[tuple[bytes, bytes]]:
    """Headers and bodies of messages on an edge: the oldest in its stream, then the delayed ones due first."""
    keys = broker.keys
    entries: list[DeadEntry] = []
    while (limit := min(_PER_CALL, most - len(entries))) > 0:
        after = entries[-1].entry_id if entries else ""
        page = await Entries(broker, keys.edge(edge)).after(after, limit=limit, bodies="all")
        entries += page
        if len(page) < limit:
            break
    found = [(entry.header, entry.body or b"") for entry in entries]
    names: Sequence[bytes] = ()
    if len(found) < most:
        names = await broker.answer(b"ZRANGE", keys.delayed(edge), 0, most - len(found) - 1)
    for parked in filter(None, await broker.ask_each([(b"HGET", keys.delayed_bodies(edge), name) for name in names])):
        values = dict(pairs(delayed_fields(parked)))
        found.append((values.get(b"h", b""), values.get(b"b", b"")))
    return found
