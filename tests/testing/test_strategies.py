"""Messages that hypothesis makes up fit their stage, vary, and arrive unchanged."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import fractions
import ipaddress
import pathlib
import re
import subprocess
import sys
import uuid
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AnyUrl,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FutureDate,
    HttpUrl,
    Json,
    JsonValue,
    NaiveDatetime,
    PastDatetime,
    PostgresDsn,
    RootModel,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from flowq import Pipeline, source, stage
from flowq.delivery.encoding.codec import decoder
from flowq.errors import NotFound, UsageError
from flowq.testing import strategies
from flowq.testing.alone.lone_stage import LoneStage

T = TypeVar("T")
UserId = NewType("UserId", int)
QUICK = settings(max_examples=25)


class Color(Enum):
    RED = "red"
    TWO = 2


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Keyed(TypedDict, total=False):
    n: int


@dataclasses.dataclass
class Word:
    text: str
    n: int = 1


@dataclasses.dataclass
class Noted(Word):
    notes: list[str] = dataclasses.field(default_factory=list, init=False)


@pydantic_dataclass
class Checked:
    n: Annotated[int, Field(gt=3)]


class Box(BaseModel, Generic[T]):
    content: T


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str = Field(min_length=1, alias="dogName")


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    when: dt.datetime
    word: Word
    ids: frozenset[int]


class Span(BaseModel):
    low: int
    high: int

    @model_validator(mode="after")
    def ordered(self) -> Span:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Lower(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def lowered(cls, text: str) -> str:
        return text.lower()


class Image(BaseModel):
    data: bytes
    digest: bytes = Field(min_length=2, max_length=2)


class Anything(BaseModel):
    value: JsonValue


class Ids(RootModel[list[UserId]]):
    pass


def is_even(number: int) -> int:
    if number % 2:
        raise ValueError("odd")
    return number


TYPES: list[Any] = [
    bool, int, float, str, bytes, Decimal, fractions.Fraction, uuid.UUID, UserId, Color, Level,
    dt.date, dt.time, dt.datetime, dt.timedelta, AwareDatetime, NaiveDatetime, PastDatetime, FutureDate,
    Literal["a", 1], int | str, int | None, Any, Anything, Json[int], Point, Noted, Keyed, Word, Checked, Ids,
    list[int], set[str], frozenset[int], tuple[int, str], tuple[int, ...], dict[str, int], dict[int, Word],
    dict[dt.date, bool], Sequence[int], Mapping[str, int], collections.deque[int], collections.OrderedDict[str, int],
    Annotated[int, Field(gt=3, lt=12, multiple_of=4)], Annotated[int, AfterValidator(is_even)],
    Annotated[float, Field(gt=0, le=0.5)], Annotated[float, Field(multiple_of=0.5)],
    Annotated[Decimal, Field(max_digits=5, decimal_places=2, ge=0)],
    Annotated[str, Field(pattern="^[A-Z]{3}$")], Annotated[str, StringConstraints(min_length=3, max_length=4)],
    Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True)],
    Annotated[bytes, Field(max_length=2)], Annotated[list[int], Field(min_length=2, max_length=3)],
    Annotated[tuple[int, ...], Field(min_length=2)], Annotated[dict[str, int], Field(min_length=1)],
    Annotated[dt.date, Field(ge=dt.date(2020, 1, 1), lt=dt.date(2020, 2, 1))],
    Annotated[Cat | Dog, Field(discriminator="kind")], Box[int], Box[Word], Tree, Strict, Span, Lower, Image,
    ipaddress.IPv4Address, ipaddress.IPv6Address, pathlib.Path, zoneinfo.ZoneInfo, HttpUrl, AnyUrl, PostgresDsn,
]  # fmt: skip


def stage_for(type_: Any) -> Any:
    async def handle(message: Any) -> None: ...

    handle.__annotations__ = {"message": type_, "return": None}
    return stage(handle)


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: re.sub(r" at 0x\w+", "", str(type_))[-40:])
def test_messages_of_any_type_arrive_unchanged(type_: Any) -> None:
    handle = stage_for(type_)
    lone = LoneStage.of(handle)

    @QUICK
    @given(message=strategies.messages(handle))
    def check(message: Any) -> None:
        assert lone.read(lone.write(message)) == message

    check()


@pytest.mark.parametrize("type_", [Strict, Tree, Span, Keyed, Point, Image, Box[Word], dict[int, Word]])
def test_messages_vary(type_: Any) -> None:
    seen: list[Any] = []

    @QUICK
    @given(message=strategies.messages(stage_for(type_)))
    def check(message: Any) -> None:
        seen.append(message)

    check()
    assert len({repr(message) for message in seen}) > 3


def test_a_union_yields_each_of_its_types() -> None:
    messages = strategies.messages(stage_for(Cat | Dog | int))
    for class_ in (Cat, Dog, int):
        assert type(find(messages, lambda message, class_=class_: type(message) is class_)) is class_  # type: ignore[misc]


def test_a_type_that_contains_itself_is_nested() -> None:
    nested = find(strategies.messages(stage_for(Tree)), lambda tree: bool(tree.children and tree.children[0].children))
    assert nested == Tree(value=0, children=[Tree(value=0, children=[Tree(value=0)])])


def test_fields_with_a_default_are_given_and_left_out() -> None:
    messages = strategies.messages(stage_for(Word))
    assert find(messages, lambda word: word.n == 1) == Word("", 1)
    assert find(messages, lambda word: word.n > 1) == Word("", 2)


def test_a_message_is_not_larger_than_its_stage_accepts() -> None:
    small = stage_for(str).options(max_bytes=4)

    @QUICK
    @given(message=strategies.messages(small))
    def check(message: str) -> None:
        assert len(message.encode()) <= 2  # without its quotes

    check()


def test_a_stage_with_batches_has_messages_too() -> None:
    @stage(batch=10)
    async def add(numbers: list[int]) -> None: ...

    assert find(strategies.messages(add), lambda number: number > 5) == 6


def test_a_stage_may_be_named_in_its_pipeline() -> None:
    pipeline = Pipeline("numbers", stage_for(int))
    assert find(strategies.messages("handle", pipeline=pipeline), lambda number: number > 5) == 6
    with pytest.raises(NotFound):
        strategies.messages("handel", pipeline=pipeline)


# Fields


def test_strategies_of_the_users_replace_single_fields_at_any_depth() -> None:
    class Order(BaseModel):
        lines: list[Word]
        cat: Cat
        at: dt.datetime

    at = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    fields = {"lines.text": st.just("apple"), "cat.lives": st.integers(7, 8), "at": st.just(at)}

    @QUICK
    @given(order=strategies.messages(stage_for(Order), fields=fields))
    def check(order: Order) -> None:
        assert {line.text for line in order.lines} <= {"apple"}
        assert order.cat.lives in (7, 8)
        assert order.at == at

    check()


def test_in_a_type_that_contains_itself_only_the_named_level_is_replaced() -> None:
    @QUICK
    @given(tree=strategies.messages(stage_for(Tree), fields={"children.value": st.just(7)}))
    def check(tree: Tree) -> None:
        assert {child.value for child in tree.children} <= {7}

    check()
    find(strategies.messages(stage_for(Tree), fields={"children.value": st.just(7)}), lambda tree: tree.value > 9)


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match='the messages of handle have no field "lifes"'):
        strategies.messages(stage_for(Cat), fields={"lifes": st.integers()})


class Opaque:
    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and self.text == other.text

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema as schemas

        written = schemas.plain_serializer_function_ser_schema(lambda value: value.text)
        return schemas.no_info_plain_validator_function(cls._read, serialization=written)

    @classmethod
    def _read(cls, value: Any) -> Opaque:
        return value if isinstance(value, Opaque) else cls(value)


class Holder(BaseModel):
    opaque: Opaque


def test_a_type_that_does_not_say_which_values_fit_needs_a_strategy_for_its_field() -> None:
    with pytest.raises(UsageError, match='the type of the field "opaque" does not say') as raised:
        strategies.messages(stage_for(Holder))
    assert 'fields={"opaque": ...}' in raised.value.hint

    found = find(strategies.messages(stage_for(Holder), fields={"opaque": st.just("x")}), lambda _: True)
    assert found == Holder(opaque=Opaque("x"))


# What cannot be asked for


def test_a_source_has_no_messages() -> None:
    @source
    def numbers() -> Iterator[int]:
        yield 1

    wrong: Any = numbers
    with pytest.raises(UsageError, match='"numbers" is a source'):
        strategies.messages(wrong)


def test_without_hypothesis_the_remedy_is_named() -> None:
    program = """
import sys
sys.modules["hypothesis"] = None
from flowq import FlowqError
import flowq.testing
try:
    flowq.testing.strategies
except FlowqError as error:
    print(error.hint)
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert printed.stdout == "pip install 'flowq-streams[test]'\n"


def test_decoding_is_that_of_a_worker() -> None:
    """A field that is validated by its alias is made up as well."""
    dog = find(strategies.messages(stage_for(Dog)), lambda dog: dog.name > "a")
    assert decoder(Dog)(b'{"kind": "dog", "name": "%s"}' % dog.name.encode()) == dog
