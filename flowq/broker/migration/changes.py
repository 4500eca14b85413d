"""How a pipeline in code differs from its record in Redis, and which stages may have been renamed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from flowq.broker.migration.recorded_plan import RecordedEdge
from flowq.broker.migration.shards_change import ShardsChange
from flowq.delivery.edge import Edge, inlet_of
from flowq.delivery.encoding.codec import schema_digest
from flowq.errors import UsageError
from flowq.graph.compilation.plan import Plan


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
    shards: ShardsChange | None = None

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
            "shards": self.shards and self.shards.as_json(),
            "changes": [change.as_json() for change in self.changes],
        }


def target_of_move(edge: str, moves: Mapping[str, str], plan: Plan) -> str:
    """The edge that replaces one that is gone, else the inlet of its stage; "" if its stage is gone as well."""
    origin, target = Edge.parse(edge)
    new_origin, new_target = moves.get(origin, origin), moves.get(target, target)
    for name in (str(Edge(new_origin, new_target)), inlet_of(new_target)):
        if name in plan.edge_by_name:
            return name
    return ""


def check_moves(moves: Mapping[str, str], plan: Plan, recorded: Collection[str]) -> None:
    """Raise NotFound or UsageError for a move that is not possible."""
    sources = _sources_among(recorded)
    for old, new in moves.items():
        if old in plan.stage_by_name:
            raise UsageError(f'--move {old}={new}: "{old}" is still in the code, so nothing has replaced it')
        if plan.stage(new).is_source and inlet_of(old) in recorded:
            raise UsageError(f'--move {old}={new}: "{new}" is a source and accepts no messages')
        if old in sources and not plan.stage(new).is_source:
            raise UsageError(f'--move {old}={new}: "{old}" was a source, but "{new}" is not')


def likely_moves(recorded: Mapping[str, RecordedEdge], plan: Plan, moves: Mapping[str, str]) -> dict[str, str]:
    """Stages that are gone, each with the only new stage that accepts the same messages."""
    inlets = {Edge.parse(edge): record for edge, record in recorded.items()}
    before = {edge.target: record for edge, record in inlets.items() if edge.is_inlet}
    gone = {name: record for name, record in before.items() if name not in plan.stage_by_name and name not in moves}
    new = {stage.name: schema_digest(stage.accepts) for stage in plan.consumers if stage.name not in before}
    likely: dict[str, str] = {}
    for name, record in gone.items():
        alike = [stage for stage, schema in new.items() if schema == record.schema and stage not in likely.values()]
        if len(alike) == 1:
            likely[name] = alike[0]
    return likely


def likely_source_moves(recorded: Collection[str], plan: Plan, moves: Mapping[str, str]) -> dict[str, str]:
    """The source that is gone with the new one, if there is one of each."""
    before = _sources_among(recorded)
    gone = [name for name in before if name not in plan.stage_by_name and name not in moves]
    new = [source.name for source in plan.sources if source.name not in before and source.name not in moves.values()]
    return {gone[0]: new[0]} if len(gone) == len(new) == 1 else {}


def _sources_among(recorded: Collection[str]) -> list[str]:
    """The origins on record that are no target of any edge."""
    origins = {Edge.parse(edge).origin for edge in recorded} - {""}
    return sorted(origin for origin in origins if inlet_of(origin) not in recorded)
