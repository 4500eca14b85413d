"""Converts the arguments that the user passes to the types that the sources declare."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeGuard, cast, get_args

import orjson
from pydantic import TypeAdapter, ValidationError

from flowq.delivery.encoding.codec import explain, type_adapter
from flowq.errors import EncodeError, UsageError
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.typecheck import members
from flowq.graph.declaration.definition import evaluated, signature_of
from flowq.printable import is_unicode

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def source_arguments(stage: StagePlan, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a source, converted to its annotated types.

    Text is used as it is, or parsed as JSON where the type requires that: a list, a dict, a model. A list of texts is
    an option that was repeated. Raises UsageError for an argument that is missing or does not fit. Arguments of other
    sources are ignored.
    """
    arguments: dict[str, Any] = {}
    for parameter in _parameters(stage):
        name = parameter.name
        if name in given:
            arguments[name] = _converted(stage, parameter, given[name])
        elif parameter.default is inspect.Parameter.empty:
            raise UsageError(
                f'source "{stage.name}" needs the argument "{name}"',
                hint=f"add  -a {name}=...",
                place=stage.place,
            )
    return arguments


def _converted(stage: StagePlan, parameter: inspect.Parameter, given: Any) -> Any:
    annotation = parameter.annotation
    type_ = str if annotation is inspect.Parameter.empty else evaluated(stage.handler.call, annotation)
    try:
        adapter = type_adapter(type_)
    except EncodeError as error:
        hint = "give it a default, or accept text and convert it in the source"
        raise UsageError(f"-a {parameter.name}: {error.message}", hint=hint, place=stage.place) from None
    if isinstance(given, str) and not is_unicode(given):
        return _undecodable_path(stage, parameter, given, type_)
    first: ValidationError | None = None
    for reading in _readings(given, type_):
        try:
            return _read(adapter, reading)
        except ValidationError as error:
            first = first or error
    assert first is not None
    why = explain(first).removeprefix("message: ")
    shown = given if isinstance(given, str) else orjson.dumps(given, default=repr).decode()
    if _may_hold_secret(adapter):
        shown, why = "***", ", ".join(sorted({finding["type"] for finding in first.errors(include_input=False)}))
    raise UsageError(f"-a {parameter.name}={shown} does not fit: {why}", place=stage.place) from None


def _may_hold_secret(adapter: TypeAdapter[Any]) -> bool:
    """Whether a secret type of pydantic is used anywhere in the type, or anything is named like one."""
    return "secret" in repr(adapter.core_schema).lower()


def _undecodable_path(stage: StagePlan, parameter: inspect.Parameter, given: str, type_: Any) -> Path:
    """File names are bytes, and a Path can hold any of them. A str must be valid text: it may end up in a message."""
    if {Path, PurePath}.intersection(members(type_)):
        return Path(given)
    raise UsageError(
        f"-a {parameter.name}={given} is not UTF-8",
        hint=f'write  {parameter.name}: Path  in source "{stage.name}" for file names, which may hold any bytes',
        place=stage.place,
    )


def _readings(given: Any, type_: Any) -> Iterable[Any]:
    """The possible meanings of an argument, the likeliest first. Bytes are JSON."""
    if _is_list(given):
        each = [_json(one) or b"null" if isinstance(one, str) else b"null" for one in given]
        return [given, b"[" + b",".join(each) + b"]"]
    if isinstance(given, str):
        as_json = _json(given)
        likely_json = as_json is not None and given.lstrip()[:1] in ("[", "{") and type_ is not Any
        texts = [as_json, given] if likely_json else [given, as_json]
        return [reading for reading in texts if reading is not None] + [[given]]
    return [given]


def _is_list(given: Any) -> TypeGuard[list[Any]]:
    return isinstance(given, list)


def _json(text: str) -> bytes | None:
    body = text.encode("utf-8", "surrogateescape")
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return body


def _read(adapter: TypeAdapter[Any], reading: Any) -> Any:
    return adapter.validate_json(reading) if isinstance(reading, bytes) else adapter.validate_python(reading)


def bound(call: Any, filled: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The positional and named arguments of a call, from arguments that are all named."""
    only_by_place = [
        name
        for name, parameter in signature_of(call).parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and name in filled
    ]
    named = {name: value for name, value in filled.items() if name not in only_by_place}
    return [filled[name] for name in only_by_place], named


def reject_unknown_arguments(plan: Plan, given: Mapping[str, Any]) -> None:
    """Raise UsageError for an argument that no source accepts."""
    taken = {parameter.name for stage in plan.sources for parameter in _parameters(stage)}
    for name in given:
        if name not in taken:
            hint = "they accept: " + ", ".join(sorted(taken)) if taken else "they accept none"
            raise UsageError(f'no source of "{plan.name}" accepts an argument "{name}"', hint=hint)


def cursor_name(stage: StagePlan, given: Mapping[str, Any]) -> str:
    """The name of a source's cursor. It depends on the arguments, which may name another file or table."""
    own = sorted((p.name, in_one_order(given[p.name])) for p in _parameters(stage) if p.name in given)
    if not own:
        return stage.name
    return f"{stage.name} {digest(own)}"


def digest(arguments: Sequence[tuple[str, str]]) -> str:
    """A short digest, the same for the same arguments."""
    try:
        text = orjson.dumps(arguments)
    except TypeError:  # a file name that is not UTF-8
        text = json.dumps(arguments).encode()
    return hashlib.blake2b(text, digest_size=6).hexdigest()


def in_one_order(value: Any) -> str:
    """The text of an argument, the same in every process: a set is sorted, since its order varies.

    >>> in_one_order({"b", "a"})
    "['a', 'b']"
    """
    return str(sorted(map(str, cast("set[Any]", value))) if isinstance(value, set | frozenset) else value)


def cursor_type(stage: StagePlan) -> Any:
    """The type of the source's cursor: X of its `SourceContext[X]`."""
    parameter = signature_of(stage.handler.call).parameters[stage.handler.context_parameter or ""]
    (context,) = members(evaluated(stage.handler.call, parameter.annotation))
    return next(iter(get_args(context)), Any)


def _parameters(stage: StagePlan) -> Iterator[inspect.Parameter]:
    """The parameters that the user supplies."""
    for name, parameter in signature_of(stage.handler.call).parameters.items():
        is_ours = name in stage.handler.resources or name == stage.handler.context_parameter
        if not is_ours and parameter.kind not in _VARIADIC:
            yield parameter
