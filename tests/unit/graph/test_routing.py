"""Where a value goes and as which type: what a stage declares, emits and accepts."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NewType, Protocol, TypeVar

import pytest
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, PastDate
from typing_extensions import TypeAliasType, TypedDict

from flowq import Pipeline, PipelineError, source, stage
from flowq.cli.commands.push import BadMessage, Inlet
from flowq.errors import EncodeError
from flowq.graph.compilation.routing import OutputRouter, Target
from flowq.graph.compilation.stage_types import StageTypes
from tests.unit.graph.wire import ENTERING, Wire, pipeline_of

T = TypeVar("T")


class Base(BaseModel):
    n: int = 0


class Sub(Base):
    extra: str = ""


class Reading(BaseModel):
    x: float | None = None


class Other(BaseModel):
    text: str = ""


class Page(BaseModel, Generic[T]):
    items: list[T]


class SubPage(Page[Base]): ...


class User(TypedDict):
    user: int


class Order(TypedDict):
    order: int


class NamedUser(TypedDict, total=False):
    user: int
    name: str


class Added(TypedDict):
    kind: Literal["added"]
    n: int


class Removed(TypedDict):
    kind: Literal["removed"]
    n: int


class Word(str, Enum):  # noqa: UP042
    END = "end"


class HasN(Protocol):
    n: int


@dataclasses.dataclass
class Record:
    n: int = 0


@dataclasses.dataclass
class WideRecord(Record):
    m: int = 0


UserId = NewType("UserId", int)
OrderId = NewType("OrderId", int)
Numbers = NewType("Numbers", list[int])
Either = TypeAliasType("Either", Base | Other)
Two = TypeAliasType("Two", tuple[T, T], type_params=(T,))
Blob = NewType("Blob", bytes)
SHORT = Annotated[bytes, Field(max_length=9)]
ANY: Any = Any
DAY, NOON = dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)

# What is given, who takes it, a value, which of them gets it.
ARRIVING: dict[str, tuple[Any, tuple[Any, ...], Any, int]] = {
    "an int for a float": (float, (float,), 0, 0),
    "a large int for a float": (float, (float,), 10**17 + 1, 0),
    "a bool for an int": (int, (int,), True, 0),
    "a datetime for a date": (dt.date, (dt.date,), NOON, 0),
    "a date of date | datetime": (dt.date | dt.datetime, (dt.date, dt.datetime), DAY, 0),
    "a datetime of date | datetime": (dt.date | dt.datetime, (dt.datetime, dt.date), NOON, 0),
    "bool of bool | int": (bool | int, (int, bool), True, 1),
    "a subclass for its base": (Base, (Base,), Sub(extra="x"), 0),
    "a subclass where both are taken": (Base, (Base | Sub,), Sub(extra="x"), 0),
    "a declared subclass": (Sub, (Base,), Sub(extra="x"), 0),
    "a subclass in a union": (Base | Other, (Other, Base), Sub(extra="x"), 1),
    "a subclass of a dataclass": (Record, (Record,), WideRecord(1, 2), 0),
    "a list of a subclass": (list[list[Sub]], (Sequence[Base],), [Sub(extra="x")], 0),
    "a literal": (Literal["new", "old"], (Literal["new", "old"],), "old", 0),
    "a literal beside a model": (Base | Literal["end"], (Base, Literal["end"]), "end", 1),
    "a literal beside its class": (Literal["end"] | str, (Literal["end"], str), "end", 0),
    "a string beside a literal": (Literal["end"] | str, (Literal["end"], str), "other", 1),
    "an enum of strings": (str, (str,), Word.END, 0),
    "the first of two TypedDicts": (User | Order, (User, Order), {"user": 1}, 0),
    "the second of two TypedDicts": (User | Order, (User, Order), {"order": 1}, 1),
    "the second of two TypedDicts to one stage": (User | Order, (User | Order,), {"order": 1}, 0),
    "TypedDicts that a literal tells apart": (Added | Removed, (Added, Removed), {"kind": "removed", "n": 1}, 1),
    "TypedDicts that nothing tells apart, to one stage": (User | NamedUser, (User | NamedUser,), {"name": "a"}, 0),
    "a mapping": (Mapping[str, Base], (Mapping[str, Base],), {"a": Base(n=1)}, 0),
    "a list of sequences": (list[Sequence[int]], (Sequence[int],), [1, 2], 0),
    "a NewType": (UserId, (UserId,), UserId(1), 0),
    "two NewTypes to one stage": (UserId | OrderId, (UserId | OrderId,), OrderId(1), 0),
    "a NewType of a list": (Numbers, (Numbers,), [1, 2], 0),
    "an alias": (Either, (Base, Other), Other(text="x"), 1),
    "a generic alias": (Two[int], (Two[int],), (1, 2), 0),
    "an annotated member": (Annotated[Base, "x"] | Other, (Other, Base), Base(n=1), 1),
    "a generic model": (Page[Base], (Page[Base],), Page[Base](items=[Base(n=1)]), 0),
    "a generic model with its type inferred": (Page[Base], (Page[Base],), Page(items=[Base(n=1)]), 0),
    "a generic model of anything": (Page[Any], (Page[Any],), Page[Base](items=[Base(n=1)]), 0),
    "a generic model to one of anything": (Page[Base], (Page[Any],), Page[Base](items=[Base(n=1)]), 0),
    "a generic model to one without parameters": (Page[Base], (Page,), Page[Base](items=[Base(n=1)]), 0),
    "a subclass of a generic model": (Page[Base], (Page[Base],), SubPage(items=[Base(n=1)]), 0),
    "one of two generic models": (Page[int] | Page[str], (Page[int], Page[str]), Page[str](items=["a"]), 1),
    "one of two with its type inferred": (Page[int] | Page[str], (Page[int], Page[str]), Page(items=["a"]), 1),
    "a generic stage": (T, (T,), Base(n=1), 0),
    "anything to anything": (ANY, (ANY,), {"a": [1, None]}, 0),
    "a model to anything": (Base, (ANY,), Base(n=1), 0),
    "a tuple to anything": (tuple[int, str], (ANY,), (1, "a"), 0),
    "anything to a model": (ANY, (Base,), Base(n=1), 0),
    "anything may be text": (ANY, (ANY,), "x", 0),
    "None or a model": (Base | None, (Base,), Base(n=1), 0),
    "bytes beside text": (bytes | str, (bytes, str), b"\xff", 0),
    "bytes or None": (bytes | None, (bytes | None,), b"\xff", 0),
    "a NewType of bytes": (Blob, (Blob,), b"\xff", 0),
    "a NewType of bytes to bytes": (Blob, (bytes,), b"", 0),
    "bytes to annotated bytes": (bytes, (SHORT,), b"\xff", 0),
    "annotated bytes to bytes": (SHORT, (bytes,), b"\xff", 0),
    "annotated bytes": (SHORT, (SHORT,), b"\xff", 0),
    "a time with a zone": (AwareDatetime, (AwareDatetime,), NOON, 0),
    "a time to one with a zone": (dt.datetime, (AwareDatetime,), NOON, 0),
    "a day in the past": (PastDate | str, (str, PastDate), DAY, 1),
    "what the receiver asks for": (int, (Annotated[int, Field(gt=0)],), 1, 0),
}


@pytest.mark.parametrize(("given", "taken", "value", "index"), ARRIVING.values(), ids=ARRIVING)
def test_a_value_arrives_equal_where_its_type_leads(given: Any, taken: tuple[Any, ...], value: Any, index: int) -> None:
    stage, arrived = Wire.between(given, *taken).across(value)

    assert stage == f"take_{index}"
    assert arrived == value
    assert type(arrived) is type(value) or isinstance(value, (str, Page))


REFUSED_WHEN_SENT: dict[str, tuple[Any, tuple[Any, ...], Any]] = {
    "another class": (int, (int,), "x"),
    "a list for a tuple": (tuple[int, ...], (tuple[int, ...],), [1]),
    "a TypedDict of neither kind": (Added | Removed, (Added, Removed), {"kind": "moved", "n": 1}),
    "a literal that is not declared": (Literal["new"], (Literal["new"],), "old"),
    "True for the literal 1": (Literal[1], (Literal[1],), True),
    "a tuple for a sequence of its kind": (list[Sequence[int]], (Sequence[int],), (1, 2)),
    "a subclass within a mapping": (Mapping[str, Base], (Mapping[str, Base],), {"a": Sub()}),
    "a generic model of another type": (Page[Base], (Page[Base],), Page(items=[1])),
    "less than the receiver asks for": (int, (Annotated[int, Field(gt=0)],), -1),
    "a time without a zone": (AwareDatetime, (AwareDatetime,), NOON.replace(tzinfo=None)),
    "anything that is not what is taken": (ANY, (Base,), {"n": 1}),
}


@pytest.mark.parametrize(("given", "taken", "value"), REFUSED_WHEN_SENT.values(), ids=REFUSED_WHEN_SENT)
def test_a_value_that_would_arrive_as_another_is_refused(given: Any, taken: tuple[Any, ...], value: Any) -> None:
    wire = Wire.between(given, *taken)
    with pytest.raises(EncodeError):
        wire.sent(value)


def test_a_subclass_that_the_stage_cannot_know_is_refused_when_it_is_sent() -> None:
    class Local(Base):
        more: int = 0

    with pytest.raises(EncodeError, match="a Local would arrive as a Base"):
        Wire.between(Base).sent(Local(more=1))


REFUSED_AT_IMPORT: dict[str, tuple[Any, tuple[Any, ...], str]] = {
    "a sequence: one or many?": (Sequence[Base], (Sequence[Base],), "FQ107"),
    "a sequence that may be missing": (Sequence[Base] | None, (Sequence[Base],), "FQ107"),
    "two NewTypes of one class": (UserId | OrderId, (UserId, OrderId), "FQ107"),
    "a NewType and its class": (UserId | int, (UserId, int), "FQ107"),
    "TypedDicts that nothing tells apart": (User | NamedUser, (User, NamedUser), "FQ107"),
    "a TypedDict and a dict": (User | dict[str, int], (User, dict[str, int]), "FQ107"),
    "literals that overlap": (
        Annotated[Literal["a", "b"], 1] | Annotated[Literal["b", "c"], 2],
        (Literal["a", "b"], Literal["b", "c"]),
        "FQ107",
    ),
    "a protocol": (HasN, (Base,), "FQ107"),
    "a protocol that is taken": (Base, (HasN,), "FQ107"),
    "a generic model of another type": (Page[Base], (Page[Other],), "FQ103"),
    "a generic stage before two": (T, (Base, Other), "FQ103"),
}


@pytest.mark.parametrize(("given", "taken", "code"), REFUSED_AT_IMPORT.values(), ids=REFUSED_AT_IMPORT)
def test_what_cannot_be_told_apart_is_refused_at_import(given: Any, taken: tuple[Any, ...], code: str) -> None:
    with pytest.raises(PipelineError) as refusal:
        pipeline_of(given, *taken)
    assert code in {problem.code for problem in refusal.value.problems}
    assert all(problem.hint for problem in refusal.value.problems)


def test_what_the_annotation_of_the_receiver_converts_is_its_own_wish() -> None:
    assert Wire.between(str, Annotated[str, AfterValidator(str.lower)]).across("ABC") == ("take_0", "abc")


@pytest.mark.parametrize(
    ("given", "taken", "value", "tag"),
    [
        (Base, (Base,), Base(), b""),
        (Base, (Base | Other,), Base(), b"Base"),
        (Base, (Base,), Sub(), b"Sub"),
        (float, (float,), 1, b"int"),
        (UserId, (int,), 1, b""),
        (dict[str, int], (dict[str, int],), {}, b""),
        (str, (ANY,), "x", b""),
        (list[list[Sub]], (Sequence[Base],), [], b"list_Sub_"),
    ],
)
def test_the_header_names_a_type_only_where_needed(given: Any, taken: tuple[Any, ...], value: Any, tag: bytes) -> None:
    (delivery,) = Wire.between(given, *taken).sent(value)
    assert delivery.header.type_tag.encode() == tag


def test_the_edges_of_a_class_are_looked_up_once_even_if_there_are_none() -> None:
    looked_up: list[object] = []

    class Counting(OutputRouter):
        def _look_up(self, value: Any) -> tuple[Target, ...]:
            looked_up.append(value)
            return super()._look_up(value)

    @stage
    def last(n: int) -> Base | Other:
        return Base() if n else Other()

    plan = Pipeline("p", last).plan
    router = Counting(plan.stage("last"), plan, lambda: b"m1")

    assert [router.outputs([value], ENTERING) for value in (Base(), Base(), Other(), Base())] == [[], [], [], []]
    assert looked_up == [Base(), Other()]


def test_a_source_may_give_none_among_its_messages() -> None:
    @source
    def some() -> Iterator[Base | None]:
        yield None

    assert Pipeline("p", some).plan.stages[0].emits == (Base,)


@pytest.mark.parametrize(
    "tag", ["Other", "str", "Path", "StageTypes", "Page_Other_", "Base_", "x" * 10_000, "os_system", ""]
)
def test_a_tag_from_outside_names_no_type_that_the_stage_does_not_take(tag: str) -> None:
    plan = pipeline_of(Page[Base], Page[Base]).plan
    assert StageTypes(plan.stage("take_0"), plan).decoder(tag) is None


def test_a_stage_reads_a_subclass_that_stands_beside_its_types() -> None:
    plan = pipeline_of(Base, Base).plan
    decode = StageTypes(plan.stage("take_0"), plan).decoder("Sub")
    assert decode is not None
    assert decode(b'{"n":1,"extra":"x"}') == Sub(n=1, extra="x")


def test_a_pushed_number_that_json_does_not_have_is_refused_like_one_that_is_given() -> None:
    plan = pipeline_of(Reading, Reading).plan
    inlet = Inlet(plan, plan.stage("take_0"))
    with pytest.raises(BadMessage):
        inlet.read(b'{"x":1e999}', line=3)
    assert inlet.read(b'{"x":1e9}')[0] == Reading(x=1e9)
