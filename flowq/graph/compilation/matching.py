"""Finds the declared type that a value belongs to: by its class where that is enough, else by its contents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NewType, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from typing_extensions import is_typeddict

from flowq.graph.compilation.typecheck import bare, distance

Way = TypeVar("Way")


def without_names(type_: Any) -> Any:
    """A type with its NewTypes replaced by what they are at run time. Annotated is kept."""
    while isinstance(inner := bare(type_), NewType):
        type_ = inner.__supertype__
    return type_


def runtime_class(type_: Any) -> Any:
    """The class of the values of a type; for a union, Any or a Literal, the type itself."""
    type_ = bare(without_names(type_))
    if is_typeddict(type_):
        return dict
    if isinstance(type_, type) and issubclass(type_, BaseModel):
        return type_
    is_literal = get_origin(type_) is Literal
    return type_ if is_literal else get_origin(type_) or type_  # pyright: ignore[reportUnknownVariableType]


def way_for(
    value: Any, declared: Sequence[Any], way: Callable[[int], Way], works: Callable[[Way], bool]
) -> tuple[Way, bool] | None:
    """The way to write a value, and whether it is right for all values of its class; None if no declared type fits.

    `way` returns the one for the declared type with that index. If neither the class of the value nor its contents
    decide between several types, it is the first that `works`, else the last.
    """
    found, certain = candidates(type(value), declared)  # pyright: ignore[reportUnknownArgumentType]
    fitting = found[:1] if certain else [index for index in found if holds(declared[index], value)]
    for index in fitting:
        chosen = way(index)
        if index == fitting[-1] or works(chosen):
            return chosen, certain
    return None


def candidates(class_: type[Any], declared: Sequence[Any]) -> tuple[list[int], bool]:
    """The declared types that values of a class may have, nearest first; and whether the first one is certain."""
    found: list[tuple[int, bool, int]] = []
    for index, type_ in enumerate(declared):
        far, depends = _distance(class_, bare(without_names(type_)))
        if far is not None:
            found.append((far, not depends, index))
    found.sort()
    alone = len(found) < 2 or found[0][:2] != found[1][:2]
    return [index for _, _, index in found], bool(found) and found[0][1] and alone


def holds(type_: Any, value: Any) -> bool:
    """Whether a value of the right class satisfies a Literal or a TypedDict. True for all other types."""
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
    """Whether no value can have both of two types."""
    one, other = bare(without_names(one)), bare(without_names(other))
    n_literals = [get_origin(one), get_origin(other)].count(Literal)
    if n_literals == 2:
        return not _values(one) & _values(other)
    if is_typeddict(one) and is_typeddict(other):
        return _dicts_are_told_apart(one, other)
    return n_literals == 1 or runtime_class(one) != runtime_class(other)


def _distance(class_: type[Any], type_: Any) -> tuple[int | None, bool]:
    """The distance of a type from a class, and whether the contents of a value decide as well."""
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
