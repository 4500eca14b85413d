"""One stage apart from its pipeline: how its messages and its outputs are written, and read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Union

from flowq.broker.message_ids import MessageIds
from flowq.delivery.edge import Edge, inlet_of
from flowq.delivery.encoding.codec import decoder
from flowq.delivery.message import Arrival, Delivery, Header
from flowq.delivery.settlement import Output
from flowq.errors import NotFound, UnknownType, UsageError
from flowq.graph.compilation.plan import EdgePlan, Plan, Route, StagePlan
from flowq.graph.compilation.routing import Outlet, OutputRouter, entering
from flowq.graph.compilation.stage_types import StageTypes
from flowq.graph.declaration.flow import Accepts
from flowq.graph.declaration.resource import Resource
from flowq.graph.kinds import Kind, Shape
from flowq.graph.pipeline import Pipeline
from flowq.testing.replaced_resources import with_resources
from flowq.world import REAL

_COLLECTOR = "(collector)"  # no stage can have this name
_MOST_BYTES = 64_000_000  # of an output: the stages that may receive it, and their limits, are not known


class Written(NamedTuple):
    """A message as bytes, and the tag of its type: "" for the type that its reader assumes."""

    tag: str
    body: bytes


@dataclass(frozen=True)
class LoneStage:
    """A stage whose outputs all go to one place, the collector. Its plan has all stages that it may emit to."""

    plan: Plan
    stage: StagePlan

    @classmethod
    def of(cls, stage: Accepts[Any] | str, pipeline: Pipeline | Plan | None = None) -> LoneStage:
        """The stage, with the options that it has in the pipeline, if that is given.

        Raises UsageError for anything that is not one stage, NotFound for a stage that is not in the pipeline, and
        PipelineError for one that no pipeline could have.
        """
        name = stage if isinstance(stage, str) else getattr(stage, "name", None)
        if name is None:
            raise UsageError(f"{stage!r} is not one stage", hint="name a function decorated with @stage")
        if pipeline is None:
            if isinstance(stage, str):
                raise NotFound(f'stage "{stage}" of which pipeline?', hint="pass pipeline=, or the stage itself")
            pipeline = Pipeline("test", stage)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        plan = pipeline if isinstance(pipeline, Plan) else pipeline.plan
        planned = plan.stage(name)
        if planned.is_source:
            raise UsageError(f'"{name}" is a source: it accepts no messages', hint="name a stage after it")
        return cls(*_with_collector(plan, planned))

    def with_resources(self, values: Mapping[Resource[Any], Any]) -> LoneStage:
        """The same stage with these values in the place of resources. Raises UsageError for one that is not used."""
        plan = with_resources(self.plan, values)
        return LoneStage(plan, plan.stage(self.stage.name))

    @property
    def returns_many(self) -> bool:
        """Whether one call may return several messages: as a list, by `yield`, or for a batch."""
        handler = self.stage.handler
        is_generator = handler.shape in (Shape.GENERATOR, Shape.ASYNC_GENERATOR)
        return is_generator or handler.returns_list or self.stage.batch is not None

    def entering(self, message: Any) -> Output:
        """A message as it is pushed to the stage. Raises EncodeError for one that the stage does not accept."""
        return entering(self._inlet.target_for(message), message, self._ids.next())

    def write(self, message: Any) -> Written:
        """The same as a `Written`."""
        return _written(self.entering(message))

    def read(self, written: Written) -> Any:
        """The message as the stage gets it. Raises DecodeError."""
        return self._decoded(self.stage.name, written)

    def write_outputs(self, values: Iterable[Any]) -> list[Written]:
        """What the stage has returned, value by value. Raises EncodeError for what its annotation does not declare."""
        row = (Arrival(inlet_of(self.stage.name), "test", 0), b"1-0", Header.entering("m").encode(), b"", None)
        return [_written(output) for output in self._router.outputs(values, row)]

    def is_returned(self, output: Output) -> bool:
        """Whether the stage has returned it; it has emitted all others through its context."""
        return Edge.parse(output.edge).target == _COLLECTOR

    def values(self, outputs: Sequence[Output]) -> list[Any]:
        """Outputs as their receivers get them. Raises DecodeError."""
        return [self._decoded(Edge.parse(output.edge).target, _written(output)) for output in outputs]

    def _decoded(self, reader: str, written: Written) -> Any:
        stage = self.plan.stage(reader)
        if not written.tag:
            return decoder(stage.accepts)(written.body)
        decode = StageTypes(stage, self.plan).decoder(written.tag)
        if decode is None:
            raise UnknownType(f"{reader} does not know the type {written.tag}", hint="record it again")
        return decode(written.body)

    @cached_property
    def _ids(self) -> MessageIds:
        return MessageIds(REAL)

    @cached_property
    def _inlet(self) -> Outlet:
        return Outlet(self.plan, inlet_of(self.stage.name))

    @cached_property
    def _router(self) -> OutputRouter:
        return OutputRouter(self.stage, self.plan, self._ids.next)


def _written(output: Output) -> Written:
    header = Header.decode(output.header)
    content = Delivery(Arrival(output.edge, "test", 0), b"1-0", output.header, output.body).content
    return Written(header.type_tag, content)


def _with_collector(plan: Plan, stage: StagePlan) -> tuple[Plan, StagePlan]:
    """The plan in which a stage of it feeds the collector instead of its own successors."""
    if not stage.emits:
        return plan, stage
    edge = EdgePlan(str(Edge(stage.name, _COLLECTOR)), stage.name, _COLLECTOR, stage.emits)
    # It has the handler of the stage, which is never called: a reader knows the classes in the module of its handler.
    collector = StagePlan(
        name=_COLLECTOR,
        kind=Kind.SINK,
        handler=stage.handler,
        accepts=Union[stage.emits],  # noqa: UP007  (as many as there are)
        accepted=stage.emits,
        in_edges=(edge.name,),
        max_bytes=_MOST_BYTES,
    )
    alone = replace(stage, routes=tuple(Route(type_, (edge.name,)) for type_ in stage.emits))
    stages = tuple(alone if each is stage else each for each in plan.stages)
    return replace(plan, stages=(*stages, collector), edges=(*plan.edges, edge)), alone
