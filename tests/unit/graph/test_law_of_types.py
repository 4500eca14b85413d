"""The law: what passes the check at import arrives equal to what was sent, or is refused when it is sent."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import math
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar
from uuid import UUID

from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    computed_field,
    create_model,
    field_validator,
)
from typing_extensions import TypedDict

from flowq import PipelineError
from flowq.errors import EncodeError
from tests.unit.graph.wire import Wire

T = TypeVar("T")
Values = st.SearchStrategy[Any]
Shape = tuple[Any, Values]
"""A type and values of it."""

UserId = NewType("UserId", int)
UNIQUE = itertools.count()


class Color(Enum):
    RED = "red"
    TWO = 2


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    A = "a"
    B = "b"


class Rights(Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Box(BaseModel, Generic[T]):
    content: T
    more: list[T] = []


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str = Field("", alias="dogName")


class Animal(BaseModel):
    n: int = 0


class Horse(Animal):
    shod: bool = False


class Aliased(BaseModel):
    model_config = ConfigDict(alias_generator=lambda name: name.upper(), extra="forbid")
    width: int = 0
    when: dt.date | None = None

    @computed_field
    @property
    def double(self) -> int:
        return self.width * 2


class Lower(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def lowered(cls, text: str) -> str:
        return text.lower()


class Doubled(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def doubled(cls, n: int) -> int:
        return 2 * n


class Hidden(BaseModel):
    shown: int = 0
    hidden: int = Field(0, exclude=True)


FINITE = st.floats(allow_nan=False, allow_infinity=False)
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
SCALARS: list[Shape] = [
    (int, st.integers() | st.integers(-(10**40), 10**40)),
    (float, FINITE),
    (bool, st.booleans()),
    (str, st.text()),
    (bytes, st.binary()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (dt.date, st.dates()),
    (dt.datetime, st.datetimes() | st.datetimes(timezones=OFFSETS) | st.datetimes(timezones=st.just(dt.UTC))),
    (dt.time, st.times() | st.times(timezones=st.just(dt.UTC))),
    (dt.timedelta, st.timedeltas()),
    (UUID, st.uuids()),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (Word, st.sampled_from(Word)),
    (Literal["new", "old", 3], st.sampled_from(["new", "old", 3])),
    (Literal[True], st.just(True)),
    (UserId, st.integers()),
    (Annotated[int, Field(ge=0)], st.integers(0)),
    (Annotated[str, Field(max_length=5)], st.text(max_size=5)),
]
KEYS = [shape for shape in SCALARS if shape[0] in (int, str, bytes, dt.date, UUID, Level, Word, bool)]
HASHABLE = [shape for shape in SCALARS if shape[0] not in (float, Decimal)]
MODELS: list[Shape] = [
    (Cat, st.builds(Cat, lives=st.integers())),
    (Dog, st.builds(Dog, dogName=st.text())),
    (Animal, st.builds(Animal, n=st.integers())),
    (Aliased, st.builds(Aliased, WIDTH=st.integers(), WHEN=st.none() | st.dates())),
    (Lower, st.builds(Lower, text=st.text(alphabet="aBc"))),
    (Point, st.builds(Point, x=st.integers(), y=FINITE)),
]
DIFFICULT: list[Shape] = [
    (float, st.sampled_from([math.inf, -math.inf, math.nan, 0, 10**17 + 1, True])),
    (int, st.sampled_from([True, Level.LOW, "3"]) | st.sampled_from([5000]).map(lambda n: 10**n)),
    (Decimal, st.sampled_from([Decimal("NaN"), Decimal("Infinity"), Decimal("1E+30")])),
    (dt.datetime, st.datetimes(timezones=st.timezones())),
    (dt.date, st.datetimes() | st.dates()),
    (Animal, st.builds(Horse, n=st.integers(), shod=st.booleans())),
    (Doubled, st.builds(Doubled, n=st.integers(-3, 3))),
    (Hidden, st.builds(Hidden, shown=st.integers(), hidden=st.integers(0, 1))),
    (Rights, st.sampled_from([Rights.READ, Rights.READ | Rights.WRITE, Rights(0)])),
    (Any, st.sampled_from([(1, 2), {"a": dt.date(2020, 1, 1)}, [1, None, "x"], Cat(), Decimal(1)])),
    (Literal[Color.RED, True], st.sampled_from([Color.RED, True])),
    (dict[Color, int], st.just({Color.RED: 1, Color.TWO: 2})),
    (dict[tuple[int, int], int], st.just({(1, 2): 3})),
    (dict[Any, int], st.sampled_from([{1: 1}, {"a": 1}, {None: 1}])),
    (int | float | str, st.integers() | FINITE | st.text()),
    (str | dt.date, st.dates() | st.text()),
    (bytes | str, st.binary() | st.text()),
    (Annotated[int, Field(ge=0)], st.integers()),
    (Box[Any], st.builds(Box[Animal], content=st.builds(Animal)) | st.builds(Box[Any], content=st.dates())),
    (Box[int], st.builds(Box, content=st.integers() | st.text())),
]


def lists(inner: Shape) -> Shape:
    return list[inner[0]], st.lists(inner[1], max_size=3)  # type: ignore[name-defined]


def optional(inner: Shape) -> Shape:
    return inner[0] | None, st.none() | inner[1]


def fixed_tuples(inner: Shape) -> Shape:
    return tuple[inner[0], int], st.tuples(inner[1], st.integers())  # type: ignore[name-defined]


def open_tuples(inner: Shape) -> Shape:
    return tuple[inner[0], ...], st.lists(inner[1], max_size=3).map(tuple)  # type: ignore[name-defined]


@st.composite
def dicts(draw: st.DrawFn, inner: Shape) -> Shape:
    key, keys = draw(st.sampled_from(KEYS))
    return dict[key, inner[0]], st.dictionaries(keys, inner[1], max_size=3)  # type: ignore[valid-type, name-defined]


@st.composite
def sets(draw: st.DrawFn) -> Shape:
    type_, values = draw(st.sampled_from(HASHABLE))
    kind = draw(st.sampled_from([set, frozenset]))
    return kind[type_], st.sets(values, max_size=3).map(kind)


@st.composite
def models(draw: st.DrawFn, inner: Shape) -> Shape:
    type_, values = inner
    # A TypedDict inside has the configuration of its model, so that its keys have aliases too: names must do.
    aliases = {"alias_generator": str.upper, "validate_by_name": True}
    options: list[dict[str, Any]] = [{}, {"frozen": True}, {"extra": "forbid"}, {"extra": "allow"}, {"strict": True},
                                     aliases]  # fmt: skip
    config: Any = draw(st.sampled_from(options))
    fields: Any = {"first": (type_, ...), "second": (type_ | None, None)}
    model: Any = create_model(f"Model{next(UNIQUE)}", __config__=config, **fields)
    if "alias_generator" in config:
        return model, st.builds(model, FIRST=values, SECOND=st.none() | values)
    return model, st.builds(model, first=values, second=st.none() | values)


def data_classes(inner: Shape) -> Shape:
    class_: Any = dataclasses.make_dataclass(f"Data{next(UNIQUE)}", [("first", inner[0]), ("n", int, 0)])
    return class_, st.builds(class_, first=inner[1], n=st.integers())


def typed_dicts(inner: Shape) -> Shape:
    type_ = TypedDict(f"Dict{next(UNIQUE)}", {"first": inner[0]})  # type: ignore[operator]  # noqa: UP013
    return type_, st.fixed_dictionaries({"first": inner[1]})


def root_models(inner: Shape) -> Shape:
    class_: Any = RootModel[inner[0]]  # type: ignore[name-defined]
    return class_, inner[1].map(class_)


def boxes(inner: Shape) -> Shape:
    class_: Any = Box[inner[0]]  # type: ignore[name-defined]
    return class_, st.builds(class_, content=inner[1], more=st.lists(inner[1], max_size=2))


def discriminated(inner: Shape) -> Shape:
    pet: Any = Annotated[Cat | Dog, Field(discriminator="kind")]
    model: Any = create_model(f"Owner{next(UNIQUE)}", pet=(pet, ...), other=(inner[0], ...))
    return model, st.builds(model, pet=MODELS[0][1] | MODELS[1][1], other=inner[1])


CONTAINERS = [lists, optional, fixed_tuples, open_tuples, data_classes, typed_dicts, root_models, boxes, discriminated]


def nested(leaves: list[Shape]) -> st.SearchStrategy[Shape]:
    def wrap(inner: st.SearchStrategy[Shape]) -> st.SearchStrategy[Shape]:
        plain = [inner.map(container) for container in CONTAINERS]
        return st.one_of(*plain, inner.flatmap(dicts), inner.flatmap(models), sets())

    return st.recursive(st.sampled_from(leaves), wrap, max_leaves=3)


def types_in(value: Any) -> Any:
    """The classes of a value and of all that it holds."""
    held: list[Any] = []
    if isinstance(value, BaseModel):
        held = [getattr(value, name) for name in type(value).model_fields]
        held += list((value.model_extra or {}).values())
    elif dataclasses.is_dataclass(value):
        held = [getattr(value, each.name) for each in dataclasses.fields(value)]
    elif isinstance(value, dict):
        held = [*value, *value.values()]
    elif isinstance(value, (list, tuple)):
        held = list(value)
    return type(value), [types_in(each) for each in held]


QUICK = settings(max_examples=60, suppress_health_check=list(HealthCheck))


@QUICK
@given(st.data())
def test_values_of_ordinary_types_arrive_equal_and_of_the_same_types(data: st.DataObject) -> None:
    type_, values = data.draw(nested(SCALARS + MODELS))
    wire = Wire.between(list[type_], type_)  # type: ignore[valid-type]
    value = data.draw(values.filter(lambda value: value is not None))

    _, arrived = wire.across(value)

    assert arrived == value
    assert types_in(arrived) == types_in(value)


@QUICK
@given(st.data())
def test_whatever_the_type_a_value_arrives_equal_or_is_refused_before_it_is_sent(data: st.DataObject) -> None:
    type_, values = data.draw(nested(DIFFICULT))
    try:
        wire = Wire.between(list[type_], type_)  # type: ignore[valid-type]
        sent = wire.sent(value := data.draw(values))
    except ValidationError:
        reject()  # no value of that type
    except (PipelineError, EncodeError):
        return
    for delivery in sent:
        arrived = wire.received(delivery)
        assert arrived == value or at_the_same_instant(arrived, value)


def at_the_same_instant(arrived: Any, sent: Any) -> bool:
    """Python calls no time equal to itself in another zone in the hour that comes twice."""
    return str(arrived).replace("TzInfo", "") == str(sent) or dt_texts(arrived) == dt_texts(sent)


def dt_texts(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, BaseModel):
        return repr({name: dt_texts(getattr(value, name)) for name in type(value).model_fields})
    if dataclasses.is_dataclass(value):
        return repr({each.name: dt_texts(getattr(value, each.name)) for each in dataclasses.fields(value)})
    if isinstance(value, dict):
        return repr({dt_texts(key): dt_texts(each) for key, each in value.items()})
    if isinstance(value, (list, tuple)):
        return repr([dt_texts(each) for each in value])
    return repr(value)
