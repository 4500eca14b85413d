"""Strategies of hypothesis for the messages of a stage, made from its types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from flowq.delivery.encoding.codec import decoder, is_raw, type_adapter
from flowq.errors import DecodeError, EncodeError, UsageError
from flowq.graph.compilation.plan import Plan
from flowq.graph.declaration.flow import Accepts
from flowq.graph.pipeline import Pipeline
from flowq.testing.alone.lone_stage import LoneStage

try:
    from hypothesis import strategies as st
except ModuleNotFoundError as error:
    raise UsageError("flowq.testing.strategies needs hypothesis", hint="pip install 'flowq-streams[test]'") from error

from flowq.testing.generation.schema_values import NoValues, SchemaValues

M = TypeVar("M")
_UNFIT = object()


def messages(
    stage: Accepts[M] | str,
    *,
    pipeline: Pipeline | Plan | None = None,
    fields: Mapping[str, st.SearchStrategy[Any]] | None = None,
) -> st.SearchStrategy[M]:
    """Messages that a stage accepts, of every type that it declares.

    Every message is one that a worker could read: it has been decoded from JSON, passes the validators of its type, is
    not larger than the stage allows, and arrives unchanged when it is sent. Constraints are met by construction where
    the schema of pydantic has them (`Field(gt=0, pattern=...)`). Validators that are functions are met by trial: values
    that they refuse are dropped.

    stage: the stage, or its name in `pipeline`.
    pipeline: the pipeline of the stage; then its options are those that it has there.
    fields: strategies for single fields, by name, with dots into nested objects: for values that the type does not
        describe, or to make some of them likely.

    Raises UsageError for anything that is not one stage, for a type of another library that does not say which values
    fit, and for a field that does not exist. hypothesis itself complains if nearly all values are dropped.

    >>> from dataclasses import dataclass
    >>> from flowq import stage
    >>> @dataclass
    ... class Order:
    ...     number: int
    ...     currency: str
    >>> @stage
    ... async def bill(order: Order) -> None: ...
    >>> from hypothesis import find, strategies as st
    >>> orders = messages(bill, fields={"currency": st.sampled_from(["EUR", "USD"])})
    >>> find(orders, lambda order: order.number > 100)
    Order(number=101, currency='EUR')
    """
    lone = LoneStage.of(stage, pipeline)
    given, used = fields or {}, set[str]()
    made = st.one_of([_of_type(type_, lone, given, used) for type_ in lone.stage.accepted])
    if unknown := sorted(given.keys() - used):
        raise UsageError(
            f'the messages of {lone.stage.name} have no field "{unknown[0]}"',
            hint="dotted paths of fields: author.name",
        )
    return made


def _of_type(type_: Any, lone: LoneStage, fields: Mapping[str, st.SearchStrategy[Any]], used: set[str]) -> Any:
    if is_raw(type_):
        return st.binary().filter(lambda value: _is_accepted(lone, value))
    values, decode = SchemaValues(type_adapter(type_).core_schema, fields), decoder(type_)

    def decoded(value: Any) -> Any:
        try:
            message = decode(json.dumps(value).encode())
        except DecodeError:
            return _UNFIT
        return message if _is_accepted(lone, message) else _UNFIT

    try:
        made = values.values()
    except NoValues as unknown:
        raise _no_values(unknown, lone.stage.name) from None
    used |= values.used
    return made.map(decoded).filter(lambda message: message is not _UNFIT)


def _is_accepted(lone: LoneStage, message: Any) -> bool:
    try:
        lone.entering(message)
    except EncodeError:
        return False
    return True


def _no_values(unknown: NoValues, stage: str) -> UsageError:
    what = f'the field "{unknown.path}"' if unknown.path else "the message"
    return UsageError(
        f"no values for {stage}: the type of {what} does not say which ones fit ({unknown.kind})",
        hint=f'pass fields={{"{unknown.path}": ...}} with a strategy'
        if unknown.path
        else "write a strategy of your own",
    )
