"""Checks whether the columns of a CSV file fit the type of its rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import AliasChoices, AliasPath
from typing_extensions import is_typeddict

from flowq.errors import UsageError
from flowq.graph.compilation.typecheck import bare

_DELIMITERS = (",", ";", "\t", "|", ":")


def check_columns(columns: Sequence[str], known: frozenset[str] | None, *, type_name: str, delimiter: str) -> None:
    """Raise UsageError if rows cannot be made from these columns, or only by guessing.

    `known` are the columns that the type has, None if it accepts any.
    """
    twice = {name for name in columns if columns.count(name) > 1 and (known is None or name in known)}
    if twice:
        names = ", ".join(f'"{name}"' for name in sorted(twice))
        raise UsageError(f"it has several columns named {names}", hint="rename them, or name all of them with columns=")
    if known and columns and known.isdisjoint(columns):
        raise UsageError(
            f"none of its columns is a field of {type_name}: {', '.join(columns)[:200]}",
            hint=_remedy(delimiter.join(columns), known, delimiter),
        )
    missing = {_plain(name): name for name in (known or frozenset()).difference(columns)}
    for name in columns:
        if known and name not in known and (meant := missing.get(_plain(name))):
            hint = "rename it in the file, or add that name as an alias of the field"
            raise UsageError(f'its column "{name}" is not the field "{meant}", and would be ignored', hint=hint)


def _plain(name: str) -> str:
    """A name without differences that are easily overlooked."""
    return name.strip().strip("\ufeff\u200b").casefold()


def _remedy(header: str, known: frozenset[str], delimiter: str) -> str:
    for other in _DELIMITERS:
        if other != delimiter and not known.isdisjoint(next(csv.reader([header], delimiter=other), ())):
            return f"the delimiter seems to be another: delimiter={other!r}"
    if "\0" in header:
        order = "be" if header.startswith("\0") else "le"
        return f"it seems to be UTF-16 without a byte order mark: encoding='utf-16-{order}'"
    names = ", ".join(sorted(known)[:10]) + (", ..." if len(known) > 10 else "")
    return f"its fields: {names}; set delimiter= or encoding=, or columns= for a file without a header"


def columns_known_to(type_: Any) -> frozenset[str] | None:
    """The names of the fields of a type, including aliases; None if any name may be one.

    >>> columns_known_to(dict[str, int]) is None
    True
    """
    type_ = bare(type_)
    while hasattr(type_, "__supertype__"):
        type_ = bare(type_.__supertype__)
    if is_typeddict(type_):
        return frozenset(type_.__required_keys__ | type_.__optional_keys__)
    class_: Any = get_origin(type_) or type_
    fields: Any = getattr(class_, "model_fields", None) or getattr(class_, "__pydantic_fields__", None)
    if fields is not None and not getattr(class_, "__pydantic_root_model__", False):
        return frozenset(name for field, info in fields.items() for name in (field, *_aliases(info)))
    if (plain := getattr(class_, "__dataclass_fields__", None)) is not None:
        return frozenset(plain)
    if get_origin(type_) in (Union, UnionType):
        members = [columns_known_to(member) for member in get_args(type_)]
        return None if None in members else frozenset(name for member in members for name in member or ())
    return None


def _aliases(info: Any) -> Iterator[str]:
    for alias in (info.alias, info.validation_alias):
        for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            first = choice.path[0] if isinstance(choice, AliasPath) else choice
            if isinstance(first, str):
                yield first
