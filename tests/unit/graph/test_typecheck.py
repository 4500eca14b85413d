"""Which types fit which, and which of several accepting stages is nearest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Protocol, TypeVar

import pytest
from pydantic import BaseModel, Field, computed_field
from typing_extensions import TypeAliasType, TypedDict

from flowq.graph.compilation.typecheck import bare, fields_of, fits, members, nearest, type_names

T = TypeVar("T")


class Animal(BaseModel):
    name: str


class Dog(Animal):
    breed: str = ""


class Puppy(Dog): ...


class Cat(Animal): ...


class Envelope(BaseModel, Generic[T]):
    content: T


class Row(TypedDict):
    id: int


class WideRow(Row):
    title: str


class OptionalRow(TypedDict, total=False):
    id: int


class Named(Protocol):
    name: str


UserId = NewType("UserId", int)
OrderId = NewType("OrderId", int)
Pet = TypeAliasType("Pet", Dog | Cat)
Ranked = Annotated[Dog | Cat, Field(description="in order")]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (Dog, Dog),
        (Dog, Animal),
        (Dog, object),
        (Dog, Any),
        (Any, Dog),
        (Dog, Dog | Cat),
        (Dog | Cat, Animal),
        (Dog | Cat, Cat | Dog),
        (Dog, Dog | None),
        (Puppy, Cat | Dog),
        (bool, int),
        (int, float),
        (float, complex),
        (UserId, int),
        (UserId, UserId),
        (Annotated[int, "id"], int),
        (int, Annotated[int, "id"]),
        (Dog, Ranked),
        (Dog, Pet),
        (Pet, Animal),
        (list[int], list[int]),
        (list[int], list),
        (list, list[int]),
        (list[Any], list[int]),
        (list[Dog], Sequence[Animal]),
        (list[Dog], Iterable[Animal]),
        (dict[str, Dog], Mapping[str, Animal]),
        (dict[str, int], Iterable[str]),
        (tuple[int, str], tuple[int, str]),
        (tuple[bool, bool], tuple[int, ...]),
        (tuple[Dog, Cat], Sequence[Animal]),
        (Row, Row),
        (WideRow, Row),
        (Row, Mapping[str, object]),
        (Literal["a"], str),
        (Literal["a"], Literal["a", "b"]),
        (Envelope[int], Envelope[int]),
        (Dog, Named),
        (T, Dog),
        (Dog, T),
    ],
    ids=str,
)
def test_these_fit(given: Any, taken: Any) -> None:
    assert fits(given, taken)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (Animal, Dog),
        (Dog, Cat),
        (Dog | Cat, Dog),
        (Dog | None, Dog),
        (object, Dog),
        (int, bool),
        (float, int),
        (int, str),
        (int, UserId),
        (UserId, OrderId),
        (UserId, str),
        (Animal, Pet),
        (list[Dog], list[Animal]),
        (list[int], list[str]),
        (list[int], tuple[int, ...]),
        (dict[str, Dog], dict[str, Animal]),
        (dict[str, int], Mapping[str, str]),
        (tuple[int, str], tuple[int, int]),
        (tuple[int, ...], tuple[int, int]),
        (tuple[int, int], tuple[int]),
        (Row, WideRow),
        (OptionalRow, Row),
        (Row, dict),
        (Row, Dog),
        (Dog, Row),
        (str, Literal["a"]),
        (Literal["a", "c"], Literal["a", "b"]),
        (Literal[1], str),
        (Envelope[int], Envelope[str]),
    ],
    ids=str,
)
def test_these_do_not_fit(given: Any, taken: Any) -> None:
    assert not fits(given, taken)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (Dog, (Dog,)),
        (Dog | Cat | None, (Dog, Cat)),
        (None, ()),
        (Pet, (Dog, Cat)),
        (Ranked, (Dog, Cat)),
        (Pet | int, (Dog, Cat, int)),
        (Dog | Pet, (Dog, Cat)),
    ],
)
def test_a_union_is_taken_apart_without_none_and_through_aliases(annotation: Any, expected: tuple[Any, ...]) -> None:
    assert members(annotation) == expected


def test_annotations_that_cannot_be_hashed_are_taken_apart() -> None:
    first, second = Annotated[int, {}], Annotated[str, []]
    either: Any = TypeAliasType("First", first) | TypeAliasType("Second", second)
    assert members(either) == (first, second)


def test_bare_sees_through_annotated_and_aliases() -> None:
    assert bare(Annotated[TypeAliasType("Number", Annotated[int, 1]), 2]) is int


@pytest.mark.parametrize(
    ("given", "takers", "expected"),
    [
        (Dog, {"animals": Animal, "dogs": Dog}, "dogs"),
        (Puppy, {"animals": Animal, "dogs": Dog}, "dogs"),
        (Cat, {"animals": Animal, "dogs": Dog}, "animals"),
        (Dog, {"first": Dog, "second": Dog}, "first"),
        (Dog, {"anything": object, "animals": Animal}, "animals"),
        (Dog, {"anything": Any, "mixed": int | Animal}, "mixed"),
        (bool, {"floats": float, "ints": int}, "ints"),
        (Dog, {"named": Named, "animals": Animal}, "animals"),
        (int, {"dogs": Dog}, None),
    ],
)
def test_same_type_wins_then_nearest_base_then_first(given: Any, takers: dict[str, Any], expected: str | None) -> None:
    assert nearest(given, takers.items()) == expected


def test_types_are_shown_as_written() -> None:
    assert type_names([Dog, Annotated[list[int], "x"]]) == "Dog | list[int]"
    assert type_names([]) == "nothing"


class Link(BaseModel):
    url: str
    model_config = {"frozen": True}

    @property
    def host(self) -> str:
        return ""

    @computed_field
    def path(self) -> str:
        return ""

    @cached_property
    def query(self) -> str:
        return ""

    def method(self) -> str:
        return ""

    @classmethod
    def build(cls) -> Link:
        return cls(url="")


class Deep(Link):
    depth: int


@dataclass
class Flight:
    number: str
    delays: Iterator[int] | None = None


class Point(NamedTuple):
    x: int


class Slotted:
    __slots__ = ("key",)


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        (Link, {"url", "host", "path", "query"}),
        (Deep, {"url", "host", "path", "query", "depth"}),
        (Flight, {"number", "delays"}),
        (WideRow, {"id", "title"}),
        (OptionalRow, {"id"}),
        (Slotted, {"key"}),
        (str, set[str]()),
        (Annotated[Flight, 1], {"number", "delays"}),
    ],
)
def test_fields_and_properties_count_and_methods_do_not(type_: Any, expected: set[str]) -> None:
    assert fields_of(type_) == expected


def test_the_fields_of_a_named_tuple_are_among_its_names() -> None:
    assert "x" in (fields_of(Point) or ())


@pytest.mark.parametrize("type_", [Any, object, dict, dict[str, int], Mapping[str, int]], ids=str)
def test_any_name_may_be_a_field_of_a_mapping_or_of_anything(type_: Any) -> None:
    assert fields_of(type_) is None


def test_a_new_type_has_the_fields_of_what_it_is_made_of() -> None:
    assert fields_of(UserId) == fields_of(int)
