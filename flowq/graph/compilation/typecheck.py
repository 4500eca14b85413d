"""Types of messages: whether the output of one stage fits the input of another, and which of several fits best.

The rules are those of a static type checker, so that a pipeline which passes one passes here too. In doubt a type fits:
a false alarm at import would stop a pipeline that works.
"""

from __future__ import annotations

import collections.abc as abc
from collections.abc import Iterable
from datetime import date, datetime
from types import UnionType
from typing import Annotated, Any, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import (
    AwareDatetime,
    BaseModel,
    EmailStr,
    FutureDate,
    FutureDatetime,
    NaiveDatetime,
    PastDate,
    PastDatetime,
)
from typing_extensions import Format, get_annotations, is_typeddict

from flowq.delivery.encoding.codec import union_members
from flowq.graph.compilation.plan import type_name

# Read-only containers are covariant: a list[Dog] is a Sequence[Animal].
_READ_ONLY = frozenset(
    {
        abc.Sequence,
        abc.Iterable,
        abc.Collection,
        abc.Set,
        abc.Mapping,
        abc.Iterator,
        abc.Reversible,
        frozenset,
        type,
    }
)
_PROMOTED = {int: (float, complex), float: (complex,)}
# No value is an instance of these classes: to a type checker they are Annotated[...].
_STAND_FOR: dict[Any, Any] = {
    EmailStr: str,
    **dict.fromkeys((AwareDatetime, NaiveDatetime, PastDatetime, FutureDatetime), datetime),
    **dict.fromkeys((PastDate, FutureDate), date),
}
Option = TypeVar("Option")

_STRUCTURAL, _ANYTHING = 1_000, 2_000


def members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, with aliases resolved, without None; any other type is its only member."""
    annotation = _without_alias(annotation)
    found = union_members(annotation)
    if len(found) == 1 and found[0] is annotation:
        return found
    split: list[Any] = []  # not a set: the metadata of Annotated may be unhashable
    for inner in (inner for member in found for inner in members(member)):
        if inner not in split:
            split.append(inner)
    return tuple(split)


def bare(type_: Any) -> Any:
    """A type without Annotated and aliases."""
    while True:
        type_ = _without_alias(type_)
        if get_origin(type_) is not Annotated:
            return _STAND_FOR.get(type_, type_) if isinstance(type_, type) else type_
        type_ = get_args(type_)[0]


def fits(given: Any, accepted: Any) -> bool:
    """Whether every value of type `given` may be passed to a function that accepts `accepted`.

    >>> fits(bool, int), fits(int | None, int), fits(list[int], list[int | str])
    (True, False, False)
    """
    given, accepted = bare(given), bare(accepted)
    if given is Any or accepted in (Any, object) or given == accepted:
        return True
    if isinstance(given, TypeVar) or isinstance(accepted, TypeVar):
        return True  # a generic stage: only a type checker can follow it
    if _is_union(given):
        return all(fits(member, accepted) for member in get_args(given))
    if _is_union(accepted):
        return any(fits(given, member) for member in get_args(accepted))
    if isinstance(given, NewType):
        return fits(given.__supertype__, accepted)
    if get_origin(given) is Literal:
        return _literal_fits(get_args(given), accepted)
    if is_typeddict(given) or is_typeddict(accepted):
        return _typed_dict_fits(given, accepted)
    return _class_fits(given, accepted)


def nearest(given: Any, targets: Iterable[tuple[Option, Any]]) -> Option | None:
    """The target whose type is nearest to `given`: the same type, else the nearest base, else the first that fits.

    >>> nearest(bool, [("object", object), ("int", int)])
    'int'
    """
    fitting = [(far, target) for target, accepted in targets if (far := distance(given, accepted)) is not None]
    return min(fitting, key=lambda pair: pair[0])[1] if fitting else None


def type_names(types: Iterable[Any]) -> str:
    """Types as their user would write them: `Doc | Link`."""
    return " | ".join(type_name(bare(type_)) for type_ in types) or "nothing"


def fields_of(type_: Any) -> frozenset[str] | None:
    """The fields and properties of a message type; None if any name may be one, as with a dict.

    Methods are excluded: the text of a bound method is the same for all messages.
    """
    type_ = bare(type_)
    if isinstance(type_, NewType):
        return fields_of(type_.__supertype__)
    if is_typeddict(type_):
        return frozenset(type_.__required_keys__ | type_.__optional_keys__)
    class_: Any = get_origin(type_) or type_
    ancestors = _ancestors(class_)
    if class_ in (Any, object) or not ancestors or issubclass(class_, abc.Mapping):
        return None
    names = set[str](getattr(class_, "model_fields", ()))
    for base in ancestors:
        if base not in (BaseModel, object):
            names |= vars(base).keys() | get_annotations(base, format=Format.FORWARDREF).keys()
    return frozenset(name for name in names - {"model_config"} if _is_readable(ancestors, name))


def _is_readable(ancestors: tuple[type, ...], name: str) -> bool:
    found = next((vars(base)[name] for base in ancestors if name in vars(base)), None)
    return not (name.startswith("_") or callable(found) or isinstance(found, (classmethod, staticmethod)))


def _ancestors(class_: Any) -> tuple[type, ...]:
    return class_.__mro__ if isinstance(class_, type) else ()


def _without_alias(type_: Any) -> Any:
    while hasattr(type_, "__value__"):  # TypeAliasType: there are two, of Python and of typing_extensions
        given = get_args(type_)  # of a generic alias
        type_ = type_.__value__[given] if given else type_.__value__
    return type_


def _is_union(type_: Any) -> bool:
    return get_origin(type_) in (Union, UnionType)


def distance(given: Any, accepted: Any) -> int | None:
    """How far `accepted` is from a type that fits it: 0 for the same type, more for each base class in between.

    >>> distance(bool, bool), distance(bool, int | None), distance(bool, str)
    (0, 1, None)
    """
    given = bare(given)
    distances: list[int] = []
    for member in map(bare, members(accepted)):
        if given == member:
            return 0
        if fits(given, member):
            distances.append(_steps(given, member))
    return min(distances, default=None)


def _steps(given: Any, accepted: Any) -> int:
    if is_open(accepted):
        return _ANYTHING
    ancestors, class_ = _ancestors(_origin(given)), _origin(accepted)
    if accepted in ancestors:
        return ancestors.index(accepted)
    return ancestors.index(class_) if class_ in ancestors else _STRUCTURAL


def is_open(type_: Any) -> bool:
    """Whether a type says nothing of its values."""
    type_ = bare(type_)
    return type_ in (Any, object) or isinstance(type_, TypeVar)


def generic_parts(type_: Any) -> tuple[Any, tuple[Any, ...]]:
    """A generic type and its arguments, of pydantic's own as well; any other type, and none."""
    made_of = type_.__dict__.get("__pydantic_generic_metadata__") if isinstance(type_, type) else None
    if made_of and made_of["origin"] is not None:
        return made_of["origin"], made_of["args"]
    return get_origin(type_) or type_, get_args(type_)


def _origin(type_: Any) -> Any:
    return generic_parts(type_)[0]


def _literal_fits(values: tuple[Any, ...], accepted: Any) -> bool:
    if get_origin(accepted) is Literal:
        return set(values) <= set(get_args(accepted))
    return all(fits(type(value), accepted) for value in values)


def _typed_dict_fits(given: Any, accepted: Any) -> bool:
    if not is_typeddict(given):
        return False
    if not is_typeddict(accepted):
        return (get_origin(accepted) or accepted) in (abc.Mapping, abc.Collection, abc.Iterable)
    given_types, accepted_types = get_type_hints(given), get_type_hints(accepted)
    return (
        accepted.__required_keys__ <= given.__required_keys__
        and accepted.__optional_keys__ <= given.__optional_keys__
        and all(_same(given_types[key], accepted_types[key]) for key in accepted_types)
    )


def _class_fits(given: Any, accepted: Any) -> bool:
    (given_class, given_arguments), (accepted_class, accepted_arguments) = generic_parts(given), generic_parts(accepted)
    if not isinstance(given_class, type) or not isinstance(accepted_class, type):
        return False
    if accepted_class in _PROMOTED.get(given_class, ()):
        return True
    try:
        related = issubclass(given_class, accepted_class)
    except TypeError:  # a protocol that cannot be checked at run time
        return True
    if related and issubclass(accepted_class, BaseModel) and given_class is not accepted_class:
        # The arguments of the subclass itself do not count, only those that it passed to its base class.
        bases = [generic_parts(base) for base in _ancestors(given)]
        given_arguments = next((arguments for base, arguments in bases if base is accepted_class and arguments), ())
        return _arguments_fit(accepted_class, given_arguments, accepted_class, accepted_arguments)
    return related and _arguments_fit(given_class, given_arguments, accepted_class, accepted_arguments)


def _arguments_fit(given_class: Any, given: tuple[Any, ...], accepted_class: Any, accepted: tuple[Any, ...]) -> bool:
    if not given or not accepted:
        return True  # a bare `list` is a list of anything
    if given_class is tuple:
        return _tuple_fits(given, accepted if accepted_class is tuple else (*accepted[:1], ...))
    if len(given) != len(accepted):
        return True
    return all(map(fits if accepted_class in _READ_ONLY else _same, given, accepted))


def _tuple_fits(given: tuple[Any, ...], accepted: tuple[Any, ...]) -> bool:
    if accepted[-1] is ...:
        return all(fits(type_, accepted[0]) for type_ in given if type_ is not ...)
    return given[-1] is not ... and len(given) == len(accepted) and all(map(fits, given, accepted))


def _same(given: Any, accepted: Any) -> bool:
    return fits(given, accepted) and fits(accepted, given)
