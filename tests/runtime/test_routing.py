"""Where outputs go: by type, to several stages, into one, and round in a cycle."""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel

from flowq import Pipeline, stage
from tests.runtime.lab import Item, Lab, Other, items
from tests.runtime.record import collecting


@stage
async def plus_hundred(item: Item) -> Item:
    return Item(n=item.n + 100)


class Base(BaseModel):
    n: int


class Derived(Base):
    extra: str = ""


async def test_outputs_are_routed_by_type_and_a_subclass_arrives_as_itself_where_its_base_goes(lab: Lab) -> None:
    got: Counter[str] = Counter()

    @stage
    async def split(item: Item) -> list[Base | Other]:
        return [Base(n=1), Derived(n=2, extra="x"), Other(text="t")]

    @stage
    async def numbers(base: Base) -> None:
        got[f"{type(base).__name__} {base.n}"] += 1

    @stage
    async def texts(other: Other) -> None:
        got[other.text] += 1

    await lab.run(Pipeline("p", split >> (numbers | texts)), *items(3))

    assert got == {"Base 1": 3, "Derived 2": 3, "t": 3}


async def test_a_fan_out_gives_a_copy_to_each(lab: Lab) -> None:
    got: Counter[str] = Counter()

    @stage
    async def left(item: Item) -> None:
        got["left"] += item.n

    @stage
    async def right(item: Item) -> None:
        got["right"] += item.n

    summary = await lab.run(Pipeline("p", plus_hundred >> (left, right)), *items(4))

    assert got["left"] == got["right"] == sum(n + 100 for n in range(4))
    assert summary.stages["plus_hundred"].out == 8


async def test_a_stage_of_two_types_tells_them_apart(lab: Lab) -> None:
    got: list[Item | Other] = []

    @stage
    async def split(item: Item) -> list[Item | Other]:
        return [item, Other(text="t")]

    @stage
    async def both(message: Item | Other) -> None:
        got.append(message)

    await lab.run(Pipeline("p", split >> both), Item(n=5))

    assert sorted(got, key=str) == sorted([Item(n=5), Other(text="t")], key=str)


async def test_merged_stages_both_arrive(lab: Lab) -> None:
    sink, got = collecting()

    @stage
    async def also(item: Item) -> Item:
        return Item(n=item.n + 1000)

    pipeline = Pipeline("p", (plus_hundred, also) >> sink)
    await lab.push(pipeline, also, *items(2))
    await lab.run(pipeline, *items(2))

    assert sorted(got) == [100, 101, 1000, 1001]


async def test_a_cycle_with_dedup_ends_and_counts_what_it_has_seen(lab: Lab) -> None:
    handled: list[int] = []

    @stage(dedup="n")
    async def crawl(item: Item) -> list[Item]:
        handled.append(item.n)
        return [Item(n=(item.n * 2) % 50), Item(n=(item.n * 3) % 50)]

    summary = await lab.run(Pipeline("p", crawl >> crawl), Item(n=1))

    reached = {1}
    while (more := reached | {n * k % 50 for n in reached for k in (2, 3)}) != reached:
        reached = more
    assert sorted(handled) == sorted(reached)
    assert summary.stages["crawl"].duplicates == 2 * len(reached) - (len(reached) - 1)
