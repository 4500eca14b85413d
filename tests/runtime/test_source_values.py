"""A value of a source is sent as it was at the yield, and a value that cannot be sent stops nothing."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import flowq
from flowq import Pipeline, SourceContext, source, stage
from tests.runtime.lab import Item, Lab, Other


def collecting(got: list[Any]) -> Any:
    @stage
    async def sink(item: Item) -> None:
        got.append(item.n)

    return sink


@source
def reusing() -> Iterator[Item]:
    item = Item()
    for n in range(1500):
        item.n = n
        yield item


@source
async def reusing_async() -> AsyncIterator[Item]:
    item = Item()
    for n in range(1500):
        item.n = n
        yield item


@pytest.mark.parametrize("numbers", [reusing, reusing_async], ids=["generator", "async generator"])
async def test_one_object_yielded_again_counts_as_it_was_at_each_yield(numbers: flowq.Source[Item], lab: Lab) -> None:
    got: list[int] = []

    await lab.run(Pipeline("p", numbers >> collecting(got)))

    assert sorted(got) == list(range(1500))


async def test_a_cursor_counts_as_it_was_when_it_was_saved(lab: Lab) -> None:
    got: list[int] = []
    begun_at: list[Any] = []
    fails = True

    @source
    def reading(ctx: SourceContext[dict[str, int]]) -> Iterator[Item]:
        begun_at.append(ctx.cursor)
        places = dict(ctx.cursor or {"file": 0})
        for n in range(places["file"], 6):
            if n == 4 and fails:
                places["file"] = 99  # never saved
                raise ValueError("the disk is gone")
            yield Item(n=n)
            places["file"] = n + 1
            ctx.save(places)

    pipeline = Pipeline("p", reading >> collecting(got))
    with pytest.raises(flowq.FlowqError, match="the disk is gone"):
        await lab.run(pipeline)
    fails = False
    await lab.run(pipeline)

    assert begun_at == [None, {"file": 4}]
    assert sorted(got) == list(range(6))


class Unwritable(Item):
    """Its number cannot be written."""

    n: Any = 0


class Measured(BaseModel):
    value: float | None
    head: Any = None


def half_a_pair() -> Any:
    return Unwritable(n="\ud800")


def of_another_type() -> Any:
    return Other(text="not an item")


def with_an_object() -> Any:
    return Unwritable(n=object())


@pytest.mark.parametrize("is_async", [False, True], ids=["generator", "async generator"])
@pytest.mark.parametrize("bad", [half_a_pair, of_another_type, with_an_object], ids=lambda bad: bad.__name__)
async def test_a_value_that_cannot_be_sent_is_a_dead_letter_with_its_place_and_the_source_continues(
    bad: Callable[[], Any], is_async: bool, lab: Lab
) -> None:
    got: list[int] = []

    @source
    def mixed() -> Iterator[Item]:
        yield Item(n=1)
        yield bad()
        yield Item(n=3)

    @source(name="mixed")
    async def mixed_async() -> AsyncIterator[Item]:
        yield Item(n=1)
        yield bad()
        yield Item(n=3)

    sink = collecting(got)
    pipeline = Pipeline("p", (mixed_async if is_async else mixed) >> sink)
    await lab.run(pipeline)

    letter = await lab.letter(pipeline, sink)
    assert sorted(got) == [1, 3]
    assert letter.reason == "unencodable"
    assert letter.body
    assert "source mixed, value 2, " in letter.traceback
    definition = (mixed_async if is_async else mixed).definition
    line = definition.place.line + 3
    assert f"test_source_values.py:{line}" in letter.traceback


async def test_the_dead_letter_of_a_value_keeps_what_would_have_been_lost_on_the_way(lab: Lab) -> None:
    @source
    def values() -> Iterator[Measured]:
        yield Measured(value=math.inf)
        yield Measured(value=1.5, head=b"\xff")

    @stage
    async def sink(measured: Measured) -> None: ...

    pipeline = Pipeline("p", values >> sink)
    await lab.run(pipeline)

    bodies = [letter.body for letter in await lab.letters(pipeline, sink)]
    assert sorted(bodies) == [b'{"value":"Infinity","head":null}', b'{"value":1.5,"head":"_w=="}']


@pytest.mark.parametrize("is_async", [False, True], ids=["generator", "async generator"])
async def test_none_is_no_message(is_async: bool, lab: Lab) -> None:
    got: list[int] = []

    @source
    def sparse() -> Iterator[Item | None]:
        yield from (Item(n=1), None, Item(n=2))

    @source(name="sparse")
    async def sparse_async() -> AsyncIterator[Item | None]:
        for value in (Item(n=1), None, Item(n=2)):
            yield value

    pipeline = Pipeline("p", (sparse_async if is_async else sparse) >> collecting(got))
    summary = await lab.run(pipeline)

    assert sorted(got) == [1, 2]
    assert summary.dead == 0


async def test_a_dedup_key_that_fails_for_one_value_costs_only_that_value(lab: Lab) -> None:
    got: list[int] = []

    @source
    def numbers() -> Iterator[Item]:
        yield from (Item(n=n) for n in range(5))

    @stage(dedup=lambda item: 1 // (item.n - 2))
    async def sink(item: Item) -> None:
        got.append(item.n)

    pipeline = Pipeline("p", numbers >> sink)
    await lab.run(pipeline)

    assert "the dedup key of sink failed" in (await lab.letter(pipeline, sink)).error


async def test_a_source_says_itself_where_it_reads_and_its_dead_letters_repeat_that(lab: Lab) -> None:
    same = ValueError("no order")

    @source
    def orders(ctx: SourceContext[int]) -> Iterator[Item]:
        for line in (1, 2):
            ctx.place = f"orders.xml, line {line}"
            ctx.reject(b"<order>", same)
        ctx.place = lambda: "orders.xml, line 3"
        yield Unwritable(n=object())

    sink = collecting([])
    pipeline = Pipeline("p", orders >> sink)
    await lab.run(pipeline)

    told = [letter.traceback.splitlines()[-1] for letter in await lab.letters(pipeline, sink)]
    assert sorted(told) == ["orders.xml, line 1", "orders.xml, line 2", "orders.xml, line 3"]
    assert not getattr(same, "__notes__", [])
