"""The arguments of sources: what the user gave, as the types that the sources ask for."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

import orjson
from pydantic import TypeAdapter, ValidationError

from flowq.delivery.codec import explain
from flowq.errors import UsageError
from flowq.graph.plan import Plan, StagePlan


def source_arguments(stage: StagePlan, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a source from what the user gave, converted to the annotated types.

    Raises UsageError for one that is missing or does not fit. Arguments of other sources are passed over.
    """
    hints = get_type_hints(stage.handler.call, include_extras=True)
    arguments: dict[str, Any] = {}
    for parameter in _parameters(stage):
        name = parameter.name
        if name in given:
            try:
                arguments[name] = TypeAdapter(hints.get(name, str)).validate_python(given[name])
            except ValidationError as error:
                why = explain(error).removeprefix("message: ")
                raise UsageError(f"-a {name}={given[name]} does not fit: {why}", place=stage.place) from None
        elif parameter.default is inspect.Parameter.empty:
            raise UsageError(
                f'source "{stage.name}" needs the argument "{name}"',
                hint=f"add  -a {name}=...",
                place=stage.place,
            )
    return arguments


def reject_unknown_arguments(plan: Plan, given: Mapping[str, Any]) -> None:
    """Raise UsageError for an argument that no source takes."""
    taken = {parameter.name for stage in plan.sources for parameter in _parameters(stage)}
    for name in given:
        if name not in taken:
            hint = "they take: " + ", ".join(sorted(taken)) if taken else "they take none"
            raise UsageError(f'no source of "{plan.name}" takes an argument "{name}"', hint=hint)


def cursor_name(stage: StagePlan, given: Mapping[str, Any]) -> str:
    """The name of a source's cursor: another one for other arguments, which may be about another file or table."""
    own = sorted((p.name, str(given[p.name])) for p in _parameters(stage) if p.name in given)
    if not own:
        return stage.name
    return f"{stage.name} {hashlib.blake2b(orjson.dumps(own), digest_size=6).hexdigest()}"


def cursor_type(stage: StagePlan) -> Any:
    """What the source keeps as its cursor: X of its `SourceContext[X]`."""
    hints = get_type_hints(stage.handler.call, include_extras=True)
    arguments = get_args(hints[stage.handler.context_parameter or ""])
    return arguments[0] if arguments else Any


def _parameters(stage: StagePlan) -> Iterator[inspect.Parameter]:
    """The parameters that the user fills."""
    for name, parameter in inspect.signature(stage.handler.call).parameters.items():
        if name not in stage.handler.resources and name != stage.handler.context_parameter:
            yield parameter
