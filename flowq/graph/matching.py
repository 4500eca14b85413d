"""Finds the declared type that a value is of: by its class where that says enough, else by what the value holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NewType, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from typing_extensions import is_typeddict

from flowq.graph.typecheck import bare, distance


def without_names(type_: Any) -> Any:
    """A type as it is at run time: a NewType is what it is made of. Annotated is left."""
    while isinstance(inner := bare(type_), NewType):
        type_ = inner.__supertype__
    return type_


def runtime_class(type_: Any) -> Any:
    """The class of the values of a type; for a union, Any and Literal the type itself."""
    type_ = bare(without_names(type_))
    if is_typeddict(type_):
        return dict
    if isinstance(type_, type) and issubclass(type_, BaseModel):
        return type_
    is_literal = get_origin(type_) is Literal
    return type_ if is_literal else get_origin(type_) or type_  # pyright: ignore[reportUnknownVariableType]


def candidates(class_: type[Any], declared: Sequence[Any]) -> tuple[list[int], bool]:
    """The declared types that values of a class may be of, the nearest first; and whether the first is certain."""
    found: list[tuple[int, bool, int]] = []
    for index, type_ in enumerate(declared):
        far, depends = _distance(class_, bare(without_names(type_)))
        if far is not None:
            found.append((far, not depends, index))
    found.sort()
    alone = len(found) < 2 or found[0][:2] != found[1][:2]
    return [index for _, _, index in found], bool(found) and found[0][1] and alone


def holds(type_: Any, value: Any) -> bool:
    """Whether a value of the right class is what a Literal or a TypedDict says. True for all other types."""
    type_ = bare(without_names(type_))
    if get_origin(type_) is Literal:
        return (type(value), value) in _values(type_)
    if not is_typeddict(type_):
        return True
    fields, hints = cast("Mapping[str, Any]", value), _hints(type_)
    return (
        type_.__required_keys__ <= fields.keys() <= hints.keys()
        and all(holds(hints[key], fields[key]) for key in fields if get_origin(bare(hints[key])) is Literal)
    )  # fmt: skip


def are_told_apart(one: Any, other: Any) -> bool:
    """Whether no value can be taken for either of two types."""
    one, other = bare(without_names(one)), bare(without_names(other))
    n_literals = [get_origin(one), get_origin(other)].count(Literal)
    if n_literals == 2:
        return not _values(one) & _values(other)
    if is_typeddict(one) and is_typeddict(other):
        return _dicts_are_told_apart(one, other)
    return n_literals == 1 or runtime_class(one) != runtime_class(other)


def _distance(class_: type[Any], type_: Any) -> tuple[int | None, bool]:
    """How far a type is from a class, and whether a value must be looked at as well."""
    if get_origin(type_) is Literal:
        distances = [far for value in get_args(type_) if (far := distance(class_, type(value))) is not None]
        return min(distances, default=None), True
    if is_typeddict(type_):
        return distance(class_, dict), True
    return distance(class_, type_), False


def _values(literal: Any) -> set[tuple[type[Any], Any]]:
    return {(type(value), value) for value in get_args(literal)}


def _hints(type_: Any) -> dict[str, Any]:
    return get_type_hints(type_, include_extras=False)


def _dicts_are_told_apart(one: Any, other: Any) -> bool:
    ones, others = _hints(one), _hints(other)
    if one.__required_keys__ - others.keys() or other.__required_keys__ - ones.keys():
        return True
    shared = [(ones[key], others[key]) for key in one.__required_keys__ & other.__required_keys__]
    return any(
        get_origin(bare(mine)) is get_origin(bare(theirs)) is Literal and are_told_apart(mine, theirs)
        for mine, theirs in shared
    )
