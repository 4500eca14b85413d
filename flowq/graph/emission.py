"""Encodes what a stage gives and addresses it to edges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowq.delivery.codec import Encode, check_size, dedup_hash, encoder, tag_of, value_of
from flowq.delivery.compression import packed
from flowq.delivery.message import Delivery, new_header
from flowq.delivery.settlement import Output
from flowq.errors import EncodeError
from flowq.graph.context import Emitted
from flowq.graph.plan import EdgePlan, Plan, StagePlan, inlet_of
from flowq.graph.typecheck import nearest

_NO_LINEAGE = b"- - 0"


@dataclass(frozen=True, slots=True)
class Target:
    """One edge, and how a value of one type is written for it."""

    edge: str
    stage: str
    encode: Encode
    tag: bytes
    dedup: str | Callable[[Any], Any] | None
    max_bytes: int
    plain_bytes: int  # a body up to this size is sent as it is: nothing but this one number is looked at then

    def packed(self, body: bytes, header: bytes) -> tuple[bytes, bytes]:
        """A body above `plain_bytes`, made smaller if that is possible, and its header. Raises PayloadTooLarge."""
        check_size(body, self.max_bytes, self.stage)
        body, how = packed(body)
        return body, b"%b e=%b" % (header, how.encode()) if how else header

    def hash_of(self, value: Any) -> bytes:
        if self.dedup is None:
            return b""
        try:
            return dedup_hash(value_of(value, self.dedup))
        except Exception as error:  # the user's property or function
            raise EncodeError(f"the dedup key of {self.stage} failed", detail=repr(error)) from error


class Emission:
    """The outputs of one stage: which edges take which type, and the bytes for them."""

    def __init__(self, stage: StagePlan, plan: Plan, next_id: Callable[[], bytes]) -> None:
        self._stage = stage
        self._plan = plan
        self._next_id = next_id
        self._by_type: dict[type[Any], tuple[Target, ...]] = {}
        self._declared: list[tuple[Any, tuple[Target, ...]]] = [
            (route.type, tuple(target_of(plan, edge, route.type) for edge in route.edges)) for route in stage.routes
        ]

    def targets_for(self, value: Any) -> tuple[Target, ...]:
        """The edges for a value, by its class, its nearest base class, or the one type it could be meant as."""
        found = self._by_type.get(value.__class__)
        return self._look_up(value) if found is None else found

    def _look_up(self, value: Any) -> tuple[Target, ...]:
        for base in type(value).__mro__:
            for declared, targets in self._declared:
                if base is declared or (base is not object and base is _runtime_class(declared)):
                    self._by_type[type(value)] = targets
                    return targets
        open_ended = [targets for declared, targets in self._declared if declared is Any]
        if open_ended:
            return open_ended[0]
        declared_names = " | ".join(tag_of(declared) for declared, _ in self._declared) or "None"
        raise EncodeError(
            f"{self._stage.name} returned a {type(value).__name__}, but declares {declared_names}",
            hint="return what the annotation says, or change the annotation",
        )

    def outputs(self, values: Iterable[Any], delivery: Delivery) -> list[Output]:
        """What handling a delivery gave, encoded. Raises EncodeError."""
        outputs: list[Output] = []
        next_id, add, lineage = self._next_id, outputs.append, delivery.lineage
        for value in values:
            if value is None:
                continue
            body, written_by = b"", None
            for target in self.targets_for(value):
                if target.encode is not written_by:
                    body, written_by = target.encode(value), target.encode
                header = new_header(next_id(), lineage, target.tag)
                sent = body
                if len(body) > target.plain_bytes:
                    sent, header = target.packed(body, header)
                add(Output(target.edge, header, sent, target.hash_of(value) if target.dedup is not None else b""))
        return outputs

    def emitted(self, emitted: Sequence[Emitted], delivery: Delivery) -> list[Output]:
        """What a handler gave through its context, encoded."""
        outputs: list[Output] = []
        for item in emitted:
            edge = f"{self._stage.name}>{item.stage}"
            if edge not in self._plan.edge_by_name:
                edge = inlet_of(item.stage)
            if edge not in self._plan.edge_by_name:
                raise EncodeError(
                    f'{self._stage.name} cannot emit to "{item.stage}"',
                    hint=f"name a stage of {self._plan.name} that takes messages",
                )
            target = target_for_value(self._plan, edge, item.message)
            delay_ms = round(item.delay_seconds * 1000)
            outputs.append(_written(target, item.message, self._next_id(), delivery.lineage, delay_ms))
        return outputs

    def entering(self, value: Any) -> list[Output]:
        """A value that enters the pipeline here: a new message for each edge that takes it."""
        return [entering(target, value, self._next_id()) for target in self.targets_for(value)]


def entering(target: Target, value: Any, message_id: bytes) -> Output:
    """A value as a message without parents."""
    return _written(target, value, message_id, _NO_LINEAGE, 0)


def _written(target: Target, value: Any, message_id: bytes, lineage: bytes, delay_ms: int) -> Output:
    header, body = new_header(message_id, lineage, target.tag), target.encode(value)
    if len(body) > target.plain_bytes:
        body, header = target.packed(body, header)
    return Output(target.edge, header, body, target.hash_of(value), delay_ms)


def target_of(plan: Plan, edge_name: str, type_: Any) -> Target:
    """How values of a declared type are written for an edge."""
    stage = plan.stage(plan.edge_by_name[edge_name].target)
    tag = b""
    if len(stage.accepted) > 1:
        meant = nearest(type_, [(accepted, accepted) for accepted in stage.accepted])
        tag = tag_of(type_ if meant is None else meant).encode()
    plain_bytes = min(stage.max_bytes, stage.max_bytes if stage.compress_above is None else stage.compress_above)
    return Target(edge_name, stage.name, encoder(type_), tag, stage.dedup, stage.max_bytes, plain_bytes)


def target_for_value(plan: Plan, edge_name: str, value: Any) -> Target:
    """How one value is written for an edge, by the types that its stage takes."""
    stage = plan.stage(plan.edge_by_name[edge_name].target)
    for base in type(value).__mro__:
        for accepted in stage.accepted:
            if base is accepted or (base is not object and base is _runtime_class(accepted)):
                return target_of(plan, edge_name, accepted)
    if Any in stage.accepted:
        return target_of(plan, edge_name, Any)
    names = " | ".join(tag_of(accepted) for accepted in stage.accepted)
    raise EncodeError(f"{stage.name} takes {names}, not a {type(value).__name__}")


def _runtime_class(declared: Any) -> type | None:
    """The class of the values that a declared type describes: dict for a TypedDict, list for list[int]."""
    origin: Any = getattr(declared, "__origin__", None)
    if hasattr(declared, "__metadata__"):  # Annotated[X, ...]
        return _runtime_class(origin)
    if isinstance(origin, type):
        return origin
    if hasattr(declared, "__supertype__"):  # NewType
        return _runtime_class(declared.__supertype__)
    if isinstance(declared, type):
        return dict if hasattr(declared, "__total__") and issubclass(declared, dict) else declared
    return None


def deduplicating_edges(plan: Plan) -> Mapping[str, int]:
    """The edges whose stage takes each value only once, with the `seen_ms` of the stage."""
    return {edge.name: seen_ms for edge in plan.edges if (seen_ms := plan.stage(edge.target).seen_ms)}


def edges_fed(plan: Plan, stage: StagePlan) -> Sequence[EdgePlan]:
    """The edges whose limits a stage must respect. Feedback edges are exempt: they would deadlock."""
    return [edge for edge in plan.edges_out_of(stage.name) if not edge.feedback]
