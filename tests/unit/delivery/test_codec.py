"""Bytes of a message: types refused at import, values refused when they are sent, and how the rest is written."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
    computed_field,
    field_serializer,
)
from typing_extensions import TypeAliasType, TypedDict

from flowq.delivery.encoding.codec import check_type, checked_encoder, decoder, encoder
from flowq.errors import DecodeError, EncodeError
from tests.unit.delivery.golden import WRITTEN

BERLIN = ZoneInfo("Europe/Berlin")
UTC_INVALID = b"\xff\xfe"


class Number(Enum):
    ONE = 1


class Pair(Enum):
    BOTH = (1, 2)


class Plain(BaseModel):
    n: int = 0
    x: float | None = None


class Secret(BaseModel):
    token: SecretStr


class Revealed(BaseModel):
    token: SecretStr

    @field_serializer("token")
    def reveal(self, token: SecretStr) -> str:
        return token.get_secret_value()


class Hidden(BaseModel):
    value: int = Field(exclude=True)


class HiddenDefault(BaseModel):
    value: int = Field(0, exclude=True)


class Once(BaseModel):
    numbers: Iterable[int]


class Blob(BaseModel):
    data: bytes
    by_key: dict[bytes, int] = {}


class OwnBlob(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    data: bytes


class Area(BaseModel):
    model_config = ConfigDict(extra="forbid")
    side: int

    @computed_field
    @property
    def area(self) -> int:
        return self.side**2


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)
    page_url: str = Field(alias="pageUrl")


class OneWay(BaseModel):
    value: int = Field(0, validation_alias="in", serialization_alias="out")
    other: int = Field(0, validation_alias=AliasChoices("a", AliasPath("b")))


class Cat(BaseModel):
    kind: Literal["cat"] = Field("cat", alias="Kind")


class Dog(BaseModel):
    kind: Literal["dog"] = Field("dog", alias="Kind")


class Owner(BaseModel):
    pet: Cat | Dog = Field(discriminator="kind")


class Parsed(BaseModel):
    numbers: Json[list[int]]


class Animal(BaseModel):
    n: int = 0


class Horse(Animal):
    shod: bool = False


class Stable(BaseModel):
    animal: Animal
    more: list[Animal] = []


class Meeting(BaseModel):
    at: dt.datetime | None = None
    others: list[dt.datetime] = []


class Private(BaseModel):
    n: int = 0
    _seen: int = PrivateAttr(0)

    def look(self) -> Private:
        self._seen += 1
        return self


class Row(TypedDict):
    id: int


@dataclasses.dataclass
class Flight:
    hours: float


@dataclasses.dataclass
class Cached:
    id: int
    content: Any = dataclasses.field(default=None, compare=False)


class SameById(BaseModel):
    id: int
    content: Any = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameById) and self.id == other.id


class MoreById(SameById):
    more: int = 0


class Marked(SameById):
    number: Number


class Shelf(BaseModel):
    record: SameById


class Camel(BaseModel):
    model_config = ConfigDict(extra="allow")
    page_url: str = Field(alias="pageUrl")


AnyModel = TypeVar("AnyModel", bound=BaseModel)


class Wrapped(BaseModel, Generic[AnyModel]):
    content: AnyModel


AnyValue = Any
Tree = TypeAliasType("Tree", "dict[str, Tree] | list[Tree] | str | float | None")  # type: ignore[misc]


def changed(model: BaseModel, **values: Any) -> BaseModel:
    """A model with fields that were set past its validation."""
    for name, value in values.items():
        setattr(model, name, value)
    return model


REFUSED_TYPES: dict[str, tuple[Any, str]] = {
    "a secret": (Secret, "asterisks"),
    "secret bytes": (SecretBytes, "asterisks"),
    "a secret in a list": (list[Secret], "asterisks"),
    "a required field that is left out": (Hidden, "exclude=True"),
    "an iterator": (Once, "only once"),
    "tuples as keys": (dict[tuple[int, int], str], "keys of type tuple"),
    "models as keys": (dict[Animal, str], "keys of type Animal"),
    "an enum of numbers as keys": (dict[Number, int], "keys of type Number"),
    "an enum of tuples": (Pair, "does not arrive unchanged"),
    "a function": (Callable[[], int], "function"),
    "a class": (type[Animal], "class"),
}


@pytest.mark.parametrize(("type_", "why"), REFUSED_TYPES.values(), ids=REFUSED_TYPES)
def test_a_type_whose_values_never_arrive_is_refused_with_a_remedy(type_: Any, why: str) -> None:
    with pytest.raises(EncodeError, match=why) as refusal:
        check_type(type_)
    assert refusal.value.hint


REFUSED_VALUES: dict[str, tuple[Any, Any]] = {
    "infinity": (Plain, Plain(x=math.inf)),
    "no number": (Plain, Plain(x=math.nan)),
    "infinity alone": (float, math.inf),
    "infinity in a list": (list[float], [-math.inf]),
    "half a surrogate pair": (str, "\ud800"),
    "more digits than can be read": (int, 10**5000),
    "more digits than can be read, in a model": (Plain, Plain(n=-(10**5000))),
    "a field that is left out": (HiddenDefault, HiddenDefault(value=3)),
    "a subclass in the place of its base": (Stable, Stable(animal=Horse())),
    "a subclass in a list of its base": (Stable, Stable(animal=Animal(), more=[Horse()])),
    "an offset with seconds": (Meeting, Meeting(at=dt.datetime(1880, 1, 1, tzinfo=BERLIN))),
    "an offset with seconds in a list": (Meeting, Meeting(others=[dt.datetime(1880, 1, 1, tzinfo=BERLIN)])),
    "a private attribute": (Private, Private().look()),
    "a key that is not declared": (Row, {"id": 1, "more": 2}),
    "a key that is missing": (Row, {}),
    "a value of another type in a TypedDict": (Row, {"id": "x"}),
    "an integer too exact for a float": (Flight, Flight(10**17 + 1)),
    "a value of another type in a dataclass": (Flight, Flight("x")),  # type: ignore[arg-type]
    "a tuple in the place of anything": (AnyValue, {"a": (1, 2)}),
    "a date in the place of anything": (AnyValue, [dt.date(2020, 1, 1)]),
    "a model in the place of anything": (dict[str, Any], {"a": Animal()}),
    "keys that are no strings": (dict[Any, Any], {1: 2}),
    "what an equality of its own does not look at": (SameById, SameById(id=1, content=(1, 2))),
    "the same in a field": (Shelf, Shelf(record=SameById(id=1, content=(1, 2)))),
    "a subclass that counts as equal": (Shelf, Shelf(record=MoreById(id=1, more=2))),
    "a field that is not compared": (Cached, Cached(1, (1, 2))),
    "a further field with the name of another": (Camel, Camel.model_validate({"pageUrl": "x", "page_url": "y"})),
    "a generic model without its parameters": (Wrapped, Wrapped(content=Animal(n=1))),
    "text set where a number belongs": (Plain, changed(Plain(), x="1.5")),
    "text set where an integer belongs": (Plain, changed(Plain(), n="x" * 5000)),
    "a tuple set where a list belongs": (Stable, changed(Stable(animal=Animal()), more=(Animal(),))),
    "bytes set where text belongs": (Camel, changed(Camel(pageUrl="x"), page_url=b"y")),
    "a date set where a time belongs": (Meeting, changed(Meeting(), at=dt.date(2020, 1, 1))),
    "a tuple in a type that has itself in it": (dict[str, Tree], {"a": (1.5,)}),
    "less than is asked": (Annotated[int, Field(ge=0)], -1),
}


@pytest.mark.parametrize(("type_", "value"), REFUSED_VALUES.values(), ids=REFUSED_VALUES)
def test_a_value_that_would_not_arrive_equal_is_refused_when_it_is_sent(type_: Any, value: Any) -> None:
    check_type(type_)
    with pytest.raises(EncodeError):
        encoder(type_)(value)


@pytest.mark.parametrize("silence", ['filterwarnings("ignore")', 'simplefilter("ignore")', "resetwarnings()"])
def test_a_field_set_past_its_validation_is_noticed_in_a_program_that_shows_no_warnings(silence: str) -> None:
    program = f"""
import warnings
from pydantic import BaseModel
from flowq.delivery.encoding.codec import encoder
from flowq.errors import EncodeError

class Plain(BaseModel):
    x: float = 0.0

plain = Plain()
plain.x = "1.5"
for _ in range(2):
    try:
        encoder(Plain)(plain)
    except EncodeError as error:
        print(error.message)
    warnings.{silence}
"""
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=120)
    assert ran.stdout == 2 * "a Plain would not arrive unchanged: x: a str would arrive as a float\n"


def test_what_would_not_arrive_is_named_and_not_shown() -> None:
    with pytest.raises(EncodeError, match=r"more\.0: a Horse would arrive as a Animal"):
        encoder(Stable)(Stable(animal=Animal(), more=[Horse()]))


ARRIVING: dict[str, tuple[Any, Any]] = {
    "bytes that are no text": (Blob, Blob(data=UTC_INVALID, by_key={UTC_INVALID: 1})),
    "bytes that look like a data URL": (Blob, Blob(data=b"data:;base64,AAAA")),
    "bytes of a model with a way of its own": (OwnBlob, OwnBlob(data=UTC_INVALID)),
    "a computed field where nothing more is allowed": (Area, Area(side=3)),
    "an alias": (Aliased, Aliased(pageUrl="x")),
    "a field with several names": (OneWay, OneWay.model_validate({"in": 3, "b": 4})),
    "an alias that discriminates": (Owner, Owner(pet=Dog())),
    "JSON in JSON": (Parsed, Parsed.model_validate({"numbers": "[1,2]"})),
    "a secret that is revealed": (Revealed, Revealed(token=SecretStr("s"))),
    "a field that is left out, at its default": (HiddenDefault, HiddenDefault()),
    "the base in the place of the base": (Stable, Stable(animal=Animal(n=1), more=[Animal(n=2)])),
    "a time of a zone": (Meeting, Meeting(at=dt.datetime(2020, 7, 1, tzinfo=BERLIN))),
    "an integer in the place of a float": (Flight, Flight(3)),
    "what JSON has, in the place of anything": (AnyValue, {"a": [1, 2.5, None, True, "x"]}),
    "an equality of its own": (SameById, SameById(id=1, content=[1])),
    "an enum beside an equality of its own": (Marked, Marked(id=1, number=Number.ONE)),
    "an enum in the root of a model": (RootModel[dict[str, Number]], RootModel[dict[str, Number]]({"n": Number.ONE})),
    "a further field": (Camel, Camel.model_validate({"pageUrl": "x", "more": 1})),
    "an integer set where a float belongs": (Plain, changed(Plain(), x=3)),
    "a float set where an integer belongs": (Plain, changed(Plain(), n=3.0)),
    "a type that has itself in it": (dict[str, Tree], {"a": [1.5, {"b": None}]}),
    "None in the place of a number": (Plain, Plain(x=None)),
}


@pytest.mark.parametrize(("type_", "value"), ARRIVING.values(), ids=ARRIVING)
def test_these_arrive_equal(type_: Any, value: Any) -> None:
    check_type(type_)
    assert decoder(type_)(encoder(type_)(value)) == value


def test_an_hour_that_comes_twice_arrives_as_the_same_instant() -> None:
    for fold in (0, 1):
        at = dt.datetime(2020, 10, 25, 2, 30, tzinfo=BERLIN, fold=fold)
        arrived = decoder(Meeting)(encoder(Meeting)(Meeting(at=at)))
        assert arrived.at.astimezone(dt.UTC) == at.astimezone(dt.UTC)


def test_a_model_that_gets_a_subclass_later_is_checked_from_then_on() -> None:
    class Late(BaseModel):
        n: int = 0

    class Holder(BaseModel):
        late: Late

    encode = encoder(Holder)
    assert encode(Holder(late=Late())) == b'{"late":{"n":0}}'

    class Later(Late):
        m: int = 0

    with pytest.raises(EncodeError, match="late: a Later would arrive as a Late"):
        encode(Holder(late=Later()))


def test_text_is_written_as_text_and_read_back_as_the_bytes_it_was() -> None:
    assert encoder(Blob)(Blob(data="ä".encode())) == '{"data":"ä","by_key":{}}'.encode()
    assert decoder(Blob)(b'{"data":"abc"}') == Blob(data=b"abc")
    assert decoder(Blob)(b'{"data":"data:;base64,//4="}') == Blob(data=UTC_INVALID)
    with pytest.raises(DecodeError, match="Blob"):
        decoder(Blob)(b'{"data":"data:;base64,?"}')


def test_a_body_with_aliases_written_by_another_program_is_read() -> None:
    assert decoder(Aliased)(b'{"pageUrl":"x"}') == decoder(Aliased)(b'{"page_url":"x"}') == Aliased(pageUrl="x")


def test_a_reader_who_converts_need_only_be_able_to_read() -> None:
    lower, positive = Annotated[str, AfterValidator(str.lower)], Annotated[int, Field(gt=0)]
    assert checked_encoder(str, lower, equal=False)("ABC") == b'"ABC"'
    with pytest.raises(EncodeError, match="greater than 0"):
        checked_encoder(int, positive, equal=False)(-1)


FOLDER = Path(__file__).parent / "golden"
RECORDED = {
    f"{file.stem}: {name}": (name, body)
    for file in sorted(FOLDER.glob("*.json"))
    for name, body in json.loads(file.read_text(encoding="utf-8")).items()
}


@pytest.mark.parametrize(("name", "body"), RECORDED.values(), ids=RECORDED)
def test_a_body_that_an_earlier_version_has_written_is_read(name: str, body: str) -> None:
    type_, value = WRITTEN[name]
    assert decoder(type_)(body.encode("latin-1")) == value


def test_bodies_are_written_as_in_the_newest_golden_file() -> None:
    newest = json.loads(sorted(FOLDER.glob("*.json"))[-1].read_text(encoding="utf-8"))
    written = {name: encoder(type_)(value).decode("latin-1") for name, (type_, value) in WRITTEN.items()}
    assert written == newest, "another form needs a golden file of its own, and the old one stays"
