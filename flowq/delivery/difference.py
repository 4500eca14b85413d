"""Where a value and what would arrive of it differ."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


def difference(sent: Any, arrived: Any, place: str = "", *, thorough: bool = False) -> str | None:
    """None if the two are equal, else where they are not, without the values themselves.

    Equal is what Python calls equal. Aware times are equal when they are the same instant with the same offset: between
    two zones Python calls no time of the hour equal that comes twice when the clocks go back. Objects that have no
    equality of their own are compared by what they hold; with `thorough=True` all models and dataclasses are: an
    `__eq__` of the user's and `field(compare=False)` look at less.

    >>> difference({"n": [1, (2, 3)]}, {"n": [1, [2, 3]]})
    'n.1: a tuple would arrive as a list'
    """
    if not thorough and _equal(sent, arrived):
        return None
    if (held := _held_by(sent, arrived)) is not None:
        one, other = held
        if lost := [name for name in one if name not in other]:
            return f"{_below(place, lost[0])} would be lost"
        for name in one:
            if (found := difference(one[name], other[name], _below(place, name), thorough=thorough)) is not None:
                return found
        if len(one) == len(other):
            return None
    elif isinstance(sent, datetime.datetime) and isinstance(arrived, datetime.datetime):
        if _equal(sent, arrived) or (sent.tzinfo and arrived.tzinfo and _instant(sent) == _instant(arrived)):
            return None
    elif thorough and not _has_fields(sent) and _equal(sent, arrived):
        return None
    where = f"{place}: " if place else ""
    before, after = type(sent).__name__, type(arrived).__name__
    return f"{where}a {before} would arrive as {f'a {after}' if before != after else 'another value'}"


def looks_at_less(class_: type[Any]) -> bool:
    """Whether the equality of a model or dataclass may leave out some of its fields.

    >>> looks_at_less(BaseModel)
    False
    """
    equal: Any = class_.__eq__
    if issubclass(class_, BaseModel):
        return equal is not BaseModel.__eq__
    if any(not each.compare for each in dataclasses.fields(class_)):
        return True
    return getattr(getattr(equal, "__code__", None), "co_filename", "<string>") != "<string>"  # which is generated code


def _below(place: str, name: Any) -> str:
    return f"{place}.{name}" if place else str(name)


def _equal(sent: Any, arrived: Any) -> bool:
    try:
        if sent != sent and arrived != arrived:
            return type(sent) is type(arrived)  # pyright: ignore[reportUnknownArgumentType]
        return bool(sent == arrived)
    except Exception:  # noqa: BLE001  (the equality of the user's class, or of an array)
        return False


def _instant(moment: datetime.datetime) -> tuple[datetime.datetime, datetime.timedelta | None]:
    return moment.replace(tzinfo=None, fold=0), moment.utcoffset()


def _held_by(sent: Any, arrived: Any) -> tuple[Mapping[Any, Any], Mapping[Any, Any]] | None:
    """What two containers or objects of one shape hold, by key, index or name. None: they are not of one shape."""
    if isinstance(sent, Mapping) and isinstance(arrived, Mapping):
        return sent, arrived  # pyright: ignore[reportUnknownVariableType]
    if isinstance(sent, (list, tuple)) and isinstance(arrived, (list, tuple)):
        is_of_one_kind = isinstance(sent, type(arrived))  # pyright: ignore[reportUnknownArgumentType]
        return (dict(enumerate(sent)), dict(enumerate(arrived))) if is_of_one_kind else None  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if _kind(sent) is _kind(arrived) and (held := _held(sent)) is not None:
        return held, _held(arrived) or {}
    return None


def _kind(value: Any) -> Any:
    """The class; of a generic model the one that its parameters were given to."""
    class_: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    return getattr(class_, "__pydantic_generic_metadata__", {}).get("origin") or class_


def _has_fields(value: Any) -> bool:
    return isinstance(value, BaseModel) or dataclasses.is_dataclass(value)


def _held(value: Any) -> dict[str, Any] | None:
    if isinstance(value, BaseModel):
        fields = {name: value.__dict__[name] for name in type(value).model_fields if name in value.__dict__}
        more = value.model_extra or {}
        extra = {f"{name} (extra)" if name in fields else name: more[name] for name in more}
        return fields | extra | (value.__pydantic_private__ or {})
    if dataclasses.is_dataclass(value):
        return {each.name: getattr(value, each.name, None) for each in dataclasses.fields(value)}
    class_: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    has_no_equality = class_.__eq__ is object.__eq__
    return vars(value) if has_no_equality and hasattr(value, "__dict__") else None  # pyright: ignore[reportUnknownVariableType]
