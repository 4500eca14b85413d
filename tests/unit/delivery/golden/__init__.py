"""Types and values whose bodies are kept in golden files, one for each form that a version has given them.

A file is never changed: bodies that a version has written may wait in some Redis. Bodies are stored as Latin-1.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field
from typing_extensions import TypedDict

T = TypeVar("T")


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 2


class Scalars(BaseModel):
    whole: int
    exact: float
    yes: bool
    text: str
    amount: Decimal
    day: dt.date
    moment: dt.datetime
    local: dt.datetime
    clock: dt.time
    span: dt.timedelta
    id: UUID
    color: Color
    level: Level
    state: Literal["new", "old"]
    nothing: int | None = None


class Blob(BaseModel):
    data: bytes


class Containers(BaseModel):
    many: list[int]
    pair: tuple[int, str]
    few: set[int]
    named: dict[str, float]
    numbered: dict[int, str]


class Box(BaseModel, Generic[T]):
    content: T


class Aliased(BaseModel):
    page_url: str = Field("", alias="pageUrl")


class Area(BaseModel):
    model_config = ConfigDict(extra="forbid")
    side: int

    @computed_field
    @property
    def area(self) -> int:
        return self.side**2


class Numbers(RootModel[list[int]]): ...


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str = ""


class Owner(BaseModel):
    pet: Cat | Dog = Field(discriminator="kind")


class Row(TypedDict):
    id: int
    day: dt.date


class Point(NamedTuple):
    x: int
    y: float


@dataclasses.dataclass
class Flight:
    number: str
    delay: dt.timedelta | None = None


SCALARS = Scalars(
    whole=2**70,
    exact=0.1,
    yes=True,
    text="ä\x00\u2028\U0001f600",
    amount=Decimal("1.10"),
    day=dt.date(2024, 2, 29),
    moment=dt.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=dt.UTC),
    local=dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone(dt.timedelta(hours=-3, minutes=-30))),
    clock=dt.time(23, 59, 59, 1),
    span=dt.timedelta(days=-1, microseconds=1),
    id=UUID(int=7),
    color=Color.RED,
    level=Level.HIGH,
    state="old",
)

WRITTEN: dict[str, tuple[Any, Any]] = {
    "scalars": (Scalars, SCALARS),
    "text as bytes": (Blob, Blob(data="ä".encode())),
    "any bytes": (Blob, Blob(data=bytes(range(250, 256)))),
    "bytes alone": (bytes, bytes(range(250, 256))),
    "containers": (
        Containers,
        Containers(many=[1, 2], pair=(1, "a"), few={3}, named={"a": 1.5}, numbered={7: "x"}),
    ),
    "generic": (Box[dt.date], Box[dt.date](content=dt.date(2024, 2, 29))),
    "alias": (Aliased, Aliased(pageUrl="x")),
    "computed": (Area, Area(side=3)),
    "root": (Numbers, Numbers([1, 2])),
    "discriminated": (Owner, Owner(pet=Dog(name="a"))),
    "typed dict": (Row, {"id": 1, "day": dt.date(2024, 2, 29)}),
    "named tuple": (Point, Point(1, 0.5)),
    "data class": (Flight, Flight("AB12", dt.timedelta(minutes=5))),
    "int": (int, 42),
    "float": (float, 1e-320),
    "str": (str, "ä"),
    "list": (list[Box[int]], [Box[int](content=1)]),
    "dict": (dict[str, list[int]], {"a": [1]}),
    "anything": (Any, {"a": [1, None, "x", 2.5, True]}),
}
