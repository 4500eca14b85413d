"""A plan in which some resources are replaced by values, usually the fakes of a test."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from copy import copy
from dataclasses import replace
from typing import Any

from flowq.errors import UsageError
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.declaration.resource import Resource


def with_resources(plan: Plan, values: Mapping[Resource[Any], Any]) -> Plan:
    """The plan with these values in the place of resources. The values are neither opened nor closed.

    Raises UsageError for a resource that no stage and no other resource of the plan uses.
    """
    if not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"resources=: {values!r} is not a dict", hint="resources={client: FakeClient()}")
    for resource in values:
        if not isinstance(resource, Resource):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"resources=: {resource!r} is not a resource", hint="resources={client: FakeClient()}")
    replacing = _Replacing(values)
    stages = tuple(replacing.stage(stage) for stage in plan.stages)
    if unused := [resource for resource in values if resource not in replacing.seen]:
        name = unused[0].name
        known = ", ".join(sorted(resource.name for resource in replacing.seen)) or "none"
        raise UsageError(
            f'resources={{{name}: ...}}: pipeline "{plan.name}" does not use it', hint=f"its resources: {known}"
        )
    return replace(plan, stages=stages) if values else plan


class _Replacing:
    def __init__(self, values: Mapping[Resource[Any], Any]) -> None:
        self._new = {resource: _given(resource, value) for resource, value in values.items()}
        self._values = values
        self.seen: set[Resource[Any]] = set()

    def stage(self, stage: StagePlan) -> StagePlan:
        handler = stage.handler
        return replace(stage, handler=replace(handler, resources=self._all(handler.resources)))

    def _all(self, resources: Mapping[str, Resource[Any]]) -> dict[str, Resource[Any]]:
        return {name: self._one(resource) for name, resource in resources.items()}

    def _one(self, resource: Resource[Any]) -> Resource[Any]:
        self.seen.add(resource)
        if resource not in self._new:
            # Once for each, so that stages that share a resource still do.
            new = self._new[resource] = copy(resource)
            new.requires = self._all(resource.requires)
        elif resource in self._values:
            self._all(resource.requires)  # a test may name them although nothing opens them now
        return self._new[resource]


def _given(resource: Resource[Any], value: Any) -> Resource[Any]:
    def give() -> Generator[Any]:
        yield value  # as what a resource yields, a value of any type is passed on as it is

    new = copy(resource)
    new.fn, new.requires = give, {}
    return new
