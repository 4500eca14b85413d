"""The types that a stage can read, and the type as which a value is written for it; used by sender and receiver.

A message is written as its own type, and its header names that type unless the stage would assume it anyway. So a
subclass arrives as itself at a stage that accepts its base, and an int as an int at one that accepts float. Of the
types that fit its annotation, a stage can read those that it names, those that its edges carry, plain scalars, and the
module-level classes in the modules of the pipeline's handlers and types. A value of any other class must arrive equal
as the declared type, which is checked when it is sent.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property
from itertools import product
from typing import Any, Literal, get_origin

from pydantic import BaseModel

from flowq.delivery.encoding.codec import (
    Decode,
    Encode,
    can_encode,
    checked_encoder,
    decoder,
    encoder,
    is_raw,
    tag_of,
    word_of,
)
from flowq.errors import EncodeError
from flowq.graph.compilation.matching import candidates, runtime_class, way_for, without_names
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.typecheck import bare, fits, generic_parts, is_open, type_names
from flowq.graph.declaration.definition import function_under

_SCALARS = (bool, int, float, str, bytes, date, datetime, time, timedelta, Decimal)
_AS_IN_JSON = (bool, int, float, str, list, dict)
_MOST_PARAMETERS = 2


@dataclass(frozen=True, slots=True)
class Form:
    """How a value is written for one stage: its encoder, and the tag of its type, "" if the stage assumes that type."""

    encode: Encode
    tag: str


class StageTypes:
    """The types that one stage can read, by their tags in the header."""

    def __init__(self, stage: StagePlan, plan: Plan) -> None:
        self._stage = stage
        self._plan = plan
        self._decoders: dict[str, Decode | None] = {tag_of(type_): decoder(type_) for type_ in stage.accepted}
        self._accepted = {tag_of(type_): type_ for type_ in stage.accepted}
        self._carried: dict[str, Any] = {}
        for edge in plan.edges_into(stage.name):
            for type_ in map(without_names, edge.types):
                if not is_open(type_):
                    self._carried.setdefault(_name_of(type_), type_)

    def decoder(self, tag: str) -> Decode | None:
        """The decoder for messages whose header has this tag; None for a type that the stage does not know."""
        if tag not in self._decoders:
            type_ = self._type_named(tag)
            if type_ is None:
                return None  # not remembered: tags come from outside, and their number is unbounded
            self._decoders[tag] = decoder(type_)
        return self._decoders[tag]

    def form(self, declared: Any, class_: type[Any]) -> Form:
        """How to write values of a class declared as a type. Raises EncodeError if the stage does not accept them."""
        written = self._written(without_names(declared), class_)
        read, tag = self._read(written, class_)
        if is_raw(written) != is_raw(read):
            return Form(encoder(read), tag)
        if bare(written) == bare(without_names(read)):
            if runtime_class(written) is not class_ and get_origin(bare(written)) is not Literal:
                return Form(checked_encoder(written, read), tag)
            # The receiver's Annotated may convert or constrain the value, so it need not arrive equal.
            same = written == read or bare(read) == read
            return Form(encoder(written) if same else checked_encoder(written, read, equal=False), tag)
        return Form(checked_encoder(written, read), tag)

    def form_of(self, value: Any) -> tuple[Form, bool]:
        """How to write a value for which only the types that the stage accepts are declared.

        Also whether all values of its class are written so. Raises EncodeError.
        """
        class_: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        accepted: tuple[Any, ...] = self._stage.accepted

        def form_as(index: int) -> Form:
            return self.form(accepted[index], class_)

        found = way_for(value, accepted, form_as, lambda form: can_encode(form.encode, value))
        if found is None:
            raise self._not_accepted(class_)
        return found

    def _not_accepted(self, class_: type[Any]) -> EncodeError:
        return EncodeError(f"{self._stage.name} accepts {type_names(self._stage.accepted)}, not {class_.__name__}")

    def _written(self, declared: Any, class_: type[Any]) -> Any:
        """The type as which a value is written: its own class, if the stage can read that."""
        if runtime_class(declared) is class_:
            return declared
        if get_origin(bare(declared)) is Literal:
            return declared
        if (class_ in _SCALARS or _is_data(class_)) and self._type_named(_name_of(class_)) is class_:
            return class_
        if is_open(declared):
            accepted = self._stage.accepted
            found, _ = candidates(class_, accepted)
            nearest = accepted[found[0]] if found else declared
            return class_ if is_open(nearest) and class_ in _AS_IN_JSON else without_names(nearest)
        return declared

    def _read(self, written: Any, class_: type[Any]) -> tuple[Any, str]:
        """The type as which the stage reads it, and the tag for that type."""
        accepted = self._stage.accepted
        alone = len(accepted) == 1
        for type_ in accepted:
            same = bare(without_names(type_)) == bare(written)
            if same or (is_open(type_) and alone and written in _AS_IN_JSON):
                return (written if not same else type_), "" if alone else tag_of(type_)
        name = _name_of(written)
        if self._type_named(name) == written:
            return written, name
        found, _ = candidates(class_, accepted)
        if not found:
            raise self._not_accepted(class_)
        return accepted[found[0]], "" if alone else tag_of(accepted[found[0]])

    # Names

    def _type_named(self, tag: str) -> Any:
        """The type with that tag which the stage can read; None if there is none, or more than one."""
        for known in (self._accepted, self._carried):
            if tag in known:
                return known[tag]
        type_ = self._vocabulary.get(tag) or self._generic_named(tag)
        return type_ if type_ is not None and fits(type_, self._stage.accepts) else None

    @cached_property
    def _vocabulary(self) -> dict[str, Any]:
        """Scalars and module-level classes that hold data, by tag; None for a tag that two of them share."""
        named: dict[str, Any] = {tag_of(class_): class_ for class_ in _SCALARS}
        for class_ in self._classes():
            known = named.setdefault(tag_of(class_), class_)
            if known is not class_:
                named[tag_of(class_)] = None
        return named

    def _classes(self) -> Iterator[type[Any]]:
        modules: dict[str, None] = {}
        for stage in self._plan.stages:
            modules[getattr(function_under(stage.handler.call), "__module__", "")] = None
            for type_ in (*stage.accepted, *stage.emits):
                modules[getattr(runtime_class(type_), "__module__", "")] = None
        for name in modules:
            for value in list(getattr(sys.modules.get(name), "__dict__", {}).values()):
                if isinstance(value, type) and (_is_data(value) or issubclass(value, BaseModel)):
                    yield value

    def _generic_named(self, tag: str) -> Any:
        """A parametrised generic model, built from classes with known tags."""
        named = {name: class_ for name, class_ in self._vocabulary.items() if class_ is not None and name in tag}
        for name, class_ in named.items():
            parameters = getattr(class_, "__pydantic_generic_metadata__", {}).get("parameters", ())
            if not tag.startswith(f"{name}_") or not 0 < len(parameters) <= _MOST_PARAMETERS:
                continue
            for given in product(named.values(), repeat=len(parameters)):
                if word_of(class_.model_parametrized_name(given)) == tag:
                    return class_[given]
        return None


def _is_data(class_: type[Any]) -> bool:
    """Whether a class fully describes its values. An unparametrised generic model does not."""
    if issubclass(class_, BaseModel):
        return class_ is not BaseModel and not class_.__pydantic_generic_metadata__["parameters"]
    return issubclass(class_, Enum) or dataclasses.is_dataclass(class_)


def _name_of(type_: Any) -> str:
    """The tag of a type, including the arguments of a generic one: `list_Dog_`."""
    origin, arguments = generic_parts(bare(type_))
    if isinstance(bare(type_), type) or not arguments:
        return tag_of(bare(type_))
    return f"{tag_of(origin)}_{'_'.join(_name_of(argument) for argument in arguments)}_"
