"""Arguments of sources: text of the command line becomes the annotated type, in every spelling."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, Field, Secret, SecretBytes, SecretStr

from flowq import Pipeline, PipelineError, SourceContext, source, stage
from flowq.cli.framework.parameters import arguments_of
from flowq.errors import UsageError
from flowq.runtime.source_arguments import cursor_name, source_arguments
from tests.runtime.lab import Item, Lab, Other

if TYPE_CHECKING:
    from decimal import Decimal


class Site(BaseModel):
    url: str
    depth: int = 1


@stage
async def sink(item: Item) -> None: ...


def taking(type_: Any) -> Any:
    """The plan of a source whose argument `it` has a type."""

    def numbers(it: Any) -> Iterator[Item]:
        yield Item()

    numbers.__annotations__ = {"it": type_, "return": Iterator[Item]}
    return Pipeline("p", source(numbers) >> sink).plan.sources[0]


FITTING: list[tuple[Any, list[str], Any]] = [
    (list[str], ['it=["a","b"]'], ["a", "b"]),
    (list[str], ["it=a", "it=b"], ["a", "b"]),
    (list[str], ["it=a"], ["a"]),
    (list[str], ["it=1", "it=2"], ["1", "2"]),
    (list[int], ["it=1", "it=2"], [1, 2]),
    (set[int], ["it=[1,2,2]"], {1, 2}),
    (set[str], ["it=a", "it=a"], {"a"}),
    (frozenset[str], ["it=a"], frozenset({"a"})),
    (tuple[int, str], ['it=[1,"a"]'], (1, "a")),
    (tuple[int, ...], ["it=1", "it=2"], (1, 2)),
    (dict[str, int], ['it={"a":1}'], {"a": 1}),
    (list[dict[str, int]], ['it={"a":1}', 'it={"b":2}'], [{"a": 1}, {"b": 2}]),
    (Site, ['it={"url":"https://a"}'], Site(url="https://a")),
    (list[Site], ['it={"url":"https://a"}', 'it={"url":"https://b"}'], [Site(url="https://a"), Site(url="https://b")]),
    (str | list[str], ['it=["a","b"]'], ["a", "b"]),
    (str | list[str], ["it=a,b"], "a,b"),
    (list[str] | None, ["it=null"], None),
    (str, ['it=["a"]'], '["a"]'),
    (str, ["it=a=b"], "a=b"),
    (str, ["it=12"], "12"),
    (int, ["it=12"], 12),
    (bool, ["it=true"], True),
]


@pytest.mark.parametrize(("type_", "given", "expected"), FITTING)
def test_text_becomes_the_type_of_the_parameter(type_: Any, given: list[str], expected: Any) -> None:
    assert source_arguments(taking(type_), arguments_of(given)) == {"it": expected}


@pytest.mark.parametrize(
    ("type_", "given"),
    [(str, ["it=a", "it=b"]), (list[int], ["it=[1,x]"]), (Site, ["it={}"]), (int, ["it=1", "it=2"])],
)
def test_text_that_does_not_fit_is_named(type_: Any, given: list[str]) -> None:
    with pytest.raises(UsageError, match=r"-a it=.* does not fit"):
        source_arguments(taking(type_), arguments_of(given))


async def test_a_program_gives_the_values_themselves(lab: Lab) -> None:
    plan = taking(list[str])

    assert source_arguments(plan, {"it": ["a", "[1]"]}) == {"it": ["a", "[1]"]}


def test_a_set_as_argument_has_one_cursor_whatever_its_order() -> None:
    plan = taking(set[str])
    one, other = {0, 8}, {8, 0}

    assert list(one) != list(other)
    assert cursor_name(plan, {"it": one}) == cursor_name(plan, {"it": other})


# What a source may be


def counting(ctx: SourceContext[int], prefix: str, up_to: int = 3) -> Iterator[Other]:
    for n in range(ctx.cursor or 0, up_to):
        yield Other(text=f"{prefix}{n}")
        ctx.save(n + 1)


class Counter:
    """A source with a state of its own."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def __call__(self, ctx: SourceContext[int], up_to: int = 3) -> Iterator[Other]:
        return counting(ctx, self.prefix, up_to)

    def counted(self, ctx: SourceContext[int], up_to: int = 3) -> Iterator[Other]:
        return counting(ctx, self.prefix, up_to)


def by_place_only(ctx: SourceContext[int], prefix: str = "p", /, up_to: int = 3) -> Iterator[Other]:
    return counting(ctx, prefix, up_to)


def with_more(ctx: SourceContext[int], *rest: str, up_to: int = 3, **more: str) -> Iterator[Other]:
    return counting(ctx, "m", up_to)


KINDS = {
    "partial": (functools.partial(counting, prefix="p"), "p"),
    "instance": (Counter("i"), "i"),
    "bound method": (Counter("b").counted, "b"),
    "partial of an instance": (functools.partial(Counter("j"), up_to=4), "j"),
    "positional only": (by_place_only, "p"),
    "variadic": (with_more, "m"),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_can_be_called_may_be_a_source_with_arguments_and_a_cursor(kind: str, lab: Lab) -> None:
    got: list[str] = []
    fn, prefix = KINDS[kind]

    @stage
    async def texts(other: Other) -> None:
        got.append(other.text)

    pipeline = Pipeline("p", source(name="numbers")(fn) >> texts)
    await lab.run(pipeline, arguments={"up_to": "2"})
    await lab.run(pipeline, arguments={"up_to": "2"})

    assert sorted(got) == [f"{prefix}0", f"{prefix}1"]


async def one_message() -> Item:
    return Item()


async def a_list() -> list[Item]:
    return [Item()]


def not_many() -> Item:
    return Item()


def with_a_type_for_checkers_only(price: Decimal) -> Iterator[Item]:
    yield Item()


@pytest.mark.parametrize("fn", [one_message, a_list, not_many, with_a_type_for_checkers_only, Counter])
def test_what_cannot_run_as_a_source_is_refused_at_import(fn: Any) -> None:
    with pytest.raises(PipelineError):
        Pipeline("p", source(fn) >> sink).plan  # noqa: B018


class Login(BaseModel):
    user: int
    password: SecretStr


@pytest.mark.parametrize(
    ("type_", "given"),
    [
        (Annotated[SecretStr, Field(max_length=3)], "hunter2"),
        (Annotated[SecretBytes | None, Field(max_length=3)], "hunter2"),
        (Login, '{"user": "x", "password": "hunter2"}'),
        (list[Login], ['{"user": "x", "password": "hunter2"}']),
        (dict[str, SecretStr | None], '{"password": ["hunter2"]}'),
        (Secret[int], "hunter2"),
    ],
    ids=["text", "bytes or nothing", "field", "field in a list", "value of a dict", "number"],
)
def test_a_secret_that_does_not_fit_is_not_printed(type_: Any, given: Any) -> None:
    with pytest.raises(UsageError) as caught:
        source_arguments(taking(type_), {"it": given})
    assert "hunter2" not in "".join(map(str, (caught.value, caught.value.message, caught.value.hint)))
