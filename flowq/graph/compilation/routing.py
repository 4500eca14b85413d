"""Encodes the outputs of a stage and addresses them to edges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import attrgetter
from typing import Any

from flowq.delivery.edge import inlet_of
from flowq.delivery.encoding.codec import Encode, can_encode, check_size, value_of
from flowq.delivery.encoding.compression import packed
from flowq.delivery.encoding.dedup_key import dedup_hash
from flowq.delivery.message import Row, lineage_of, new_header
from flowq.delivery.policy import DedupMemory
from flowq.delivery.settlement import Output, new_output
from flowq.errors import EncodeError
from flowq.graph.compilation.matching import candidates, way_for
from flowq.graph.compilation.plan import EdgePlan, Plan, StagePlan
from flowq.graph.compilation.stage_types import Form, StageTypes
from flowq.graph.compilation.typecheck import type_names
from flowq.graph.declaration.context import Emitted
from flowq.graph.kinds import PlacedBy
from flowq.printable import error_repr

_NO_LINEAGE = b"- - 0"


@dataclass(frozen=True, slots=True)
class Target:
    """One edge, and how to write values of one type for it."""

    edge: str
    stage: str
    encode: Encode
    tag: bytes
    dedup: str | Callable[[Any], Any] | None
    max_bytes: int
    plain_bytes: int  # a body up to this size needs neither compression nor a size check

    def packed(self, body: bytes, header: bytes) -> tuple[bytes, bytes]:
        """A body above `plain_bytes`, compressed if that helps, and its header. Raises PayloadTooLarge."""
        check_size(body, self.max_bytes, self.stage)
        body, how = packed(body)
        return body, b"%b e=%b" % (header, how.encode()) if how else header

    def hash_of(self, value: Any) -> bytes:
        if self.dedup is None:
            return b""
        try:
            return dedup_hash(value_of(value, self.dedup))
        except (Exception, GeneratorExit, SystemExit) as error:  # raised by the user's property or function
            raise EncodeError(f"the dedup key of {self.stage} failed", detail=error_repr(error)) from error


class OutputRouter:
    """The outputs of one stage: which types go to which edges, and how they are encoded."""

    here = 0  # the shard in which its messages are handled

    def __init__(self, stage: StagePlan, plan: Plan, next_id: Callable[[], bytes]) -> None:
        self._stage = stage
        self._plan = plan
        self._next_id = next_id
        self._by_type: dict[type[Any], tuple[Target, ...]] = {}
        self._declared = [route.type for route in stage.routes]
        self._by_route = [[Outlet(plan, edge) for edge in route.edges] for route in stage.routes]
        self._inlets: dict[str, Outlet] = {}

    def targets_for(self, value: Any) -> tuple[Target, ...]:
        """The edges for a value: by its class if that is enough, else by its contents."""
        found = self._by_type.get(value.__class__)
        return self._look_up(value) if found is None else found

    def _look_up(self, value: Any) -> tuple[Target, ...]:
        class_: Any = type(value)  # pyright: ignore[reportUnknownVariableType]

        def targets_of(index: int) -> tuple[Target, ...]:
            return tuple(outlet.target(self._declared[index], class_) for outlet in self._by_route[index])

        found = way_for(
            value, self._declared, targets_of, lambda targets: all(can_encode(each.encode, value) for each in targets)
        )
        if found is None:
            hint = "return what the annotation says, or change the annotation"
            if candidates(class_, self._declared)[0]:
                hint += "; a TypedDict has its own keys only, a Literal its own values"
            declared = type_names(self._declared)
            raise EncodeError(f"{self._stage.name} returned a {class_.__name__}, but declares {declared}", hint=hint)
        targets, certain = found
        if certain:
            self._by_type[class_] = targets
        return targets

    def outputs(self, values: Iterable[Any], row: Row) -> list[Output]:
        """The values that a handler returned or yielded, encoded. Raises EncodeError."""
        outputs: list[Output] = []
        next_id, by_type, lineage = self._next_id, self._by_type, b""
        for value in values:
            if value is None:
                continue
            lineage = lineage or b" " + lineage_of(row)
            body, written_by = b"", None
            targets = by_type.get(value.__class__)
            for target in self._look_up(value) if targets is None else targets:  # () where nothing accepts this class
                if target.encode is not written_by:
                    body, written_by = target.encode(value), target.encode
                sent, header = body, next_id() + lineage  # as `new_header` does, without a call
                if target.tag:
                    header += b" t=" + target.tag
                if len(body) > target.plain_bytes:
                    sent, header = target.packed(body, header)
                dedup_hash = target.hash_of(value) if target.dedup is not None else b""
                outputs.append(new_output((target.edge, header, sent, dedup_hash, 0)))
        return outputs

    def emitted(self, emitted: Sequence[Emitted], row: Row) -> list[Output]:
        """The messages that a handler emitted through its context, encoded. Raises EncodeError."""
        outputs: list[Output] = []
        for item in emitted:
            edge = f"{self._stage.name}>{item.stage}"
            if edge not in self._plan.edge_by_name:
                edge = inlet_of(item.stage)
            if edge not in self._plan.edge_by_name:
                raise EncodeError(
                    f'{self._stage.name} cannot emit to "{item.stage}"',
                    hint=f"name a stage of {self._plan.name} that accepts messages",
                )
            if edge not in self._inlets:
                self._inlets[edge] = Outlet(self._plan, edge)
            target = self._inlets[edge].target_for(item.message)
            delay_ms = round(item.delay_seconds * 1000)
            outputs.append(_written(target, item.message, self._next_id(), lineage_of(row), delay_ms))
        return outputs

    def entering(self, value: Any) -> list[Output]:
        """A value that enters the pipeline here: a new message for each edge that accepts it."""
        return [entering(target, value, self._next_id()) for target in self.targets_for(value)]


def entering(target: Target, value: Any, message_id: bytes) -> Output:
    """A value as a message without parents."""
    return _written(target, value, message_id, _NO_LINEAGE, 0)


def _written(target: Target, value: Any, message_id: bytes, lineage: bytes, delay_ms: int) -> Output:
    header, body = new_header(message_id, lineage, target.tag), target.encode(value)
    if len(body) > target.plain_bytes:
        body, header = target.packed(body, header)
    dedup_hash = target.hash_of(value) if target.dedup is not None else b""
    return Output(target.edge, header, body, dedup_hash, delay_ms)


def _written_alike(
    target: Target, values: Iterable[Any], ids_with: Callable[[bytes], Iterator[bytes]]
) -> Iterator[Output]:
    """The same for many values of one target."""
    edge, encode, plain_bytes, deduplicates = target.edge, target.encode, target.plain_bytes, target.dedup is not None
    headers = ids_with(new_header(b"", _NO_LINEAGE, target.tag))
    for value in values:
        body, header = encode(value), next(headers)
        if len(body) > plain_bytes:
            body, header = target.packed(body, header)
        yield new_output((edge, header, body, target.hash_of(value) if deduplicates else b"", 0))


class Outlet:
    """One edge as its senders see it: how to write each value for the stage that it leads to."""

    def __init__(self, plan: Plan, edge: str) -> None:
        self._edge = edge
        self._stage = plan.stage(plan.edge_by_name[edge].target)
        self._types = StageTypes(self._stage, plan)
        self._by_type: dict[type[Any], Target] = {}

    def target(self, declared: Any, class_: type[Any]) -> Target:
        """How to write values of a class declared as a type. Raises EncodeError."""
        return self._target(self._types.form(declared, class_))

    def target_for(self, value: Any) -> Target:
        """How to write a value for which only the types that the stage accepts are declared. Raises EncodeError."""
        found = self._by_type.get(value.__class__)
        if found is None:
            form, certain = self._types.form_of(value)
            found = self._target(form)
            if certain:
                self._by_type[value.__class__] = found
        return found

    def entering(self, values: Iterable[Any], ids_with: Callable[[bytes], Iterator[bytes]]) -> Iterator[Output]:
        """Many values as messages without parents, each at half the cost of `entering`. Raises EncodeError.

        `ids_with` gives new ids with a suffix, which make headers of them.
        """
        for class_, following in groupby(values, attrgetter("__class__")):
            first = next(following)
            target, alike = self.target_for(first), chain((first,), following)  # noqa: B031  (once)
            if class_ in self._by_type:
                yield from _written_alike(target, alike, ids_with)
            else:
                for value in alike:
                    yield entering(self.target_for(value), value, next(ids_with(b"")))

    def _target(self, form: Form) -> Target:
        stage = self._stage
        plain_bytes = min(stage.max_bytes, stage.max_bytes if stage.compress_above is None else stage.compress_above)
        dedup = stage.dedup.by if stage.dedup else None
        return Target(self._edge, stage.name, form.encode, form.tag.encode(), dedup, stage.max_bytes, plain_bytes)


def deduplicating_edges(plan: Plan) -> Mapping[str, DedupMemory]:
    """The edges whose stage deduplicates, and how long and by what that stage remembers."""
    memories = {edge.name: plan.stage(edge.target).dedup_memory for edge in plan.edges}
    return {
        edge: memory.with_cells() if carries_cell(plan, plan.stage(plan.edge_by_name[edge].target)) else memory
        for edge, memory in memories.items()
        if memory is not None
    }


def carries_cell(plan: Plan, stage: StagePlan) -> bool:
    """Whether the deduplication hashes of a stage tell where their messages live: it is placed by something else."""
    return plan.shards > 1 and stage.dedup is not None and stage.placed_by in (PlacedBy.RATE, PlacedBy.FIELD)


def edges_fed(plan: Plan, stage: StagePlan) -> Sequence[EdgePlan]:
    """The edges whose limits a stage must respect, as they are in one shard.

    Feedback edges are exempt: they would deadlock.
    """
    return [plan.edge_in_shard[edge.name] for edge in plan.edges_out_of(stage.name) if not edge.feedback]
