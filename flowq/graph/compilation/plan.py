"""The plan of a pipeline: frozen data about what runs, what it accepts and emits, and which edges carry it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flowq.delivery.policy import APPROXIMATE_HASH_BYTES, HASH_BYTES, DedupMemory, Keep
from flowq.errors import NotFound, Place, Problem, did_you_mean
from flowq.graph.declaration.options import Running
from flowq.graph.kinds import Kind, PlacedBy, Placement, Shape

if TYPE_CHECKING:
    import networkx as nx

    from flowq.graph.declaration.resource import Resource


PLACES: Mapping[str, PlacedBy] = {"spread": PlacedBy.MESSAGE, "here": PlacedBy.HERE}
"""Values of the option `place` that are no names of fields."""
DEFAULT_MAXSIZE = 10_000
DEFAULT_MAXSIZE_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Handler:
    """The user's function and how to call it."""

    call: Callable[..., Any]
    shape: Shape
    placement: Placement
    place: Place
    resources: Mapping[str, Resource[Any]] = field(default_factory=dict[str, "Resource[Any]"])
    context_parameter: str | None = None
    returns_list: bool = False  # one call may return many outputs as a list


@dataclass(frozen=True, slots=True)
class Route:
    """Where outputs of one type go: every edge listed gets a copy. Without edges they are dropped."""

    type: Any
    edges: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EdgePlan:
    """One connection: a stream, exactly one consumer group, and a delayed set.

    Named "origin>target". Every stage that accepts messages also has an inlet: an edge without an origin, named
    ">stage", for messages pushed from outside.
    """

    name: str
    origin: str
    target: str
    types: tuple[Any, ...] = ()
    feedback: bool = False
    maxsize: int = DEFAULT_MAXSIZE  # messages; 0: no limit
    maxsize_bytes: int = DEFAULT_MAXSIZE_BYTES  # of Redis; 0: no limit

    @property
    def is_inlet(self) -> bool:
        return not self.origin

    def divided(self, n: int) -> EdgePlan:
        """The same with an n-th of its limits, rounded up."""
        return replace(self, maxsize=-(-self.maxsize // n), maxsize_bytes=-(-self.maxsize_bytes // n))


@dataclass(frozen=True, slots=True)
class StagePlan(Running):
    """One stage, with everything that the runtime needs to know about it."""

    name: str
    kind: Kind
    handler: Handler
    accepts: Any = None  # the annotation of one message; None for a source
    accepted: tuple[Any, ...] = ()  # the same, unions split
    emits: tuple[Any, ...] = ()  # the types emitted, unions split, without None
    in_edges: tuple[str, ...] = ()  # the inlet first
    routes: tuple[Route, ...] = ()

    @property
    def place(self) -> Place:
        return self.handler.place

    @property
    def dedup_memory(self) -> DedupMemory | None:
        """How long the stage remembers a message that it deduplicates; None if it does not deduplicate."""
        if self.dedup is None:
            return None
        ttl = self.dedup.ttl_seconds
        places = self.in_edges if self.dedup.keep == "last" else ()
        hash_bytes = HASH_BYTES if self.dedup.exact else APPROXIMATE_HASH_BYTES
        return DedupMemory(None if ttl is None else max(1, round(ttl * 1000)), places, hash_bytes)

    @property
    def placed_by(self) -> PlacedBy:
        """What decides in which shard its messages live. A rate is only kept where all messages of a key are."""
        if self.rate is not None:
            return PlacedBy.STAGE if self.rate.by is None else PlacedBy.RATE
        if self.place_by is None:
            return PlacedBy.NOTHING if self.dedup is None else PlacedBy.DEDUP
        return PLACES.get(self.place_by, PlacedBy.FIELD) if isinstance(self.place_by, str) else PlacedBy.FIELD

    @property
    def slots(self) -> int:
        """How many messages the handlers of one worker take at once."""
        return self.concurrency * (self.batch.size if self.batch else 1)

    @property
    def is_source(self) -> bool:
        return self.kind is Kind.SOURCE


@dataclass(frozen=True)
class Plan:
    """A compiled pipeline. Readers: the runner, the renderers, the checks and the inspector.

    Stages are in topological order, disregarding feedback edges. `tuning` holds the options set outside the code.
    `shards` is the number of parts that the pipeline is divided into, each with its own keys in Redis.
    """

    name: str
    stages: tuple[StagePlan, ...]
    edges: tuple[EdgePlan, ...]
    warnings: tuple[Problem, ...] = ()
    tuning: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    shards: int = 1

    @cached_property
    def stage_by_name(self) -> Mapping[str, StagePlan]:
        return {stage.name: stage for stage in self.stages}

    @cached_property
    def edge_by_name(self) -> Mapping[str, EdgePlan]:
        return {edge.name: edge for edge in self.edges}

    @cached_property
    def edge_in_shard(self) -> Mapping[str, EdgePlan]:
        """The edges with the limits that each has in one shard: all of them where one shard has all messages."""
        n = {edge: 1 if self._has_home(edge) else self.shards for edge in self.edges}
        return {edge.name: edge if n[edge] == 1 else edge.divided(n[edge]) for edge in self.edges}

    def _has_home(self, edge: EdgePlan) -> bool:
        return self.stage(edge.target).placed_by is PlacedBy.STAGE

    @property
    def sources(self) -> tuple[StagePlan, ...]:
        return tuple(stage for stage in self.stages if stage.is_source)

    @cached_property
    def keeping(self) -> Mapping[str, Keep]:
        """The stages that keep settled messages, and how many."""
        return {stage.name: stage.keep for stage in self.stages if stage.keep is not None}

    @cached_property
    def claiming(self) -> Mapping[str, int]:
        """The edges whose large bodies are kept in the claim store, and the size above which they are."""
        above = {edge.name: self.stage(edge.target).claim_above for edge in self.edges}
        return {edge: n_bytes for edge, n_bytes in above.items() if n_bytes is not None}

    @property
    def consumers(self) -> tuple[StagePlan, ...]:
        """The stages that accept messages."""
        return tuple(stage for stage in self.stages if not stage.is_source)

    def stage(self, name: str) -> StagePlan:
        """The stage of that name. Raises NotFound."""
        try:
            return self.stage_by_name[name]
        except KeyError:
            hint = did_you_mean(str(name), self.stage_by_name, f"its stages: {', '.join(self.stage_by_name)}")
            raise NotFound(f'pipeline "{self.name}" has no stage "{name}"', hint=hint) from None

    def is_of_the_code_of(self, other: Plan) -> bool:
        """Whether both plans come from the same code, whatever was set outside it."""
        same_handlers = [stage.handler.call for stage in self.stages] == [stage.handler.call for stage in other.stages]
        return self.name == other.name and same_handlers

    def edges_into(self, stage: str) -> tuple[EdgePlan, ...]:
        return tuple(edge for edge in self.edges if edge.target == stage)

    def edges_out_of(self, stage: str) -> tuple[EdgePlan, ...]:
        return self._edges_by_origin.get(stage, ())

    @cached_property
    def _edges_by_origin(self) -> Mapping[str, tuple[EdgePlan, ...]]:
        by_origin: dict[str, tuple[EdgePlan, ...]] = {}
        for edge in self.edges:
            by_origin[edge.origin] = (*by_origin.get(edge.origin, ()), edge)
        return by_origin

    @cached_property
    def graph(self) -> nx.MultiDiGraph[str]:
        """The frozen graph: nodes carry `stage`, edges (keyed by name) carry `edge`. Inlets are left out.

        Built on demand: a worker that only moves messages never pays for the import.
        """
        import networkx as nx

        graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(name=self.name)
        for stage in self.stages:
            graph.add_node(stage.name, stage=stage)
        for edge in self.edges:
            if edge.origin:
                graph.add_edge(edge.origin, edge.target, key=edge.name, edge=edge)
        nx.freeze(graph)  # pyright: ignore[reportUnknownMemberType]
        return graph


def type_name(type_: Any) -> str:
    """A type as its user wrote it.

    >>> type_name(int), type_name(list[str])
    ('int', 'list[str]')
    """
    return type_.__name__ if isinstance(type_, type) and not hasattr(type_, "__args__") else str(type_)
