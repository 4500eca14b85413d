"""Compares a value with what would arrive at the receiver."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, RootModel


def difference(sent: Any, arrived: Any, place: str = "", *, thorough: bool = False) -> str | None:
    """None if the two are equal, else where they differ, without showing the values themselves.

    Values are equal if Python says so. Aware datetimes are also equal if they are the same instant at the same offset:
    in the hour that repeats when clocks go back, Python calls no two datetimes of different zones equal. Objects
    without an `__eq__` are compared by their attributes. With `thorough=True` all models and dataclasses are compared
    by their fields, because a custom `__eq__` or `field(compare=False)` may ignore some.

    >>> difference({"n": [1, (2, 3)]}, {"n": [1, [2, 3]]})
    'n.1: a tuple would arrive as a list'
    """
    if sent is arrived or (not thorough and _equal(sent, arrived)):  # an enum member has itself among its attributes
        return None
    if (held := _contents_of_both(sent, arrived)) is not None:
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


def ignores_fields(class_: type[Any]) -> bool:
    """Whether `==` of a model or dataclass may ignore some of its fields.

    >>> ignores_fields(BaseModel)
    False
    """
    equal: Any = class_.__eq__
    if issubclass(class_, BaseModel):
        return equal not in (BaseModel.__eq__, RootModel[Any].__eq__)
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


def _contents_of_both(sent: Any, arrived: Any) -> tuple[Mapping[Any, Any], Mapping[Any, Any]] | None:
    """The contents of two containers or objects of the same kind, by key, index or name; None for different kinds."""
    if isinstance(sent, Mapping) and isinstance(arrived, Mapping):
        return sent, arrived  # pyright: ignore[reportUnknownVariableType]
    if isinstance(sent, (list, tuple)) and isinstance(arrived, (list, tuple)):
        is_of_one_kind = isinstance(sent, type(arrived))  # pyright: ignore[reportUnknownArgumentType]
        return (dict(enumerate(sent)), dict(enumerate(arrived))) if is_of_one_kind else None  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if _kind(sent) is _kind(arrived) and (held := _contents(sent)) is not None:
        return held, _contents(arrived) or {}
    return None


def _kind(value: Any) -> Any:
    """The class; for a parametrised generic model, its unparametrised class."""
    class_: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    return getattr(class_, "__pydantic_generic_metadata__", {}).get("origin") or class_


def _has_fields(value: Any) -> bool:
    return isinstance(value, BaseModel) or dataclasses.is_dataclass(value)


def _contents(value: Any) -> dict[str, Any] | None:
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
