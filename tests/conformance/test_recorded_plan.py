"""The recorded plan: edges of earlier versions stay known, and are removed only as they were displayed."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

import flowq
from flowq.broker.keys import Keys
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.publishing import Publishing
from flowq.broker.runs import Runs
from tests.conformance.conftest import Command
from tests.conformance.worker import PLAN, Worker, output


class Item(BaseModel):
    """The message of `lab`, with a field that it has not there."""

    n: int
    unit: str


@flowq.stage
def clean(item: Item) -> Item:
    return item


@flowq.stage
def store(item: Item) -> None: ...


RENAMED = flowq.Pipeline("lab", clean >> store).plan


@pytest.fixture
async def renamed(worker: Worker) -> Worker:
    """`parse` has become `clean`, with three messages on the way to it and one delayed."""
    await RecordedPlan(worker.broker).record(PLAN)
    await worker.publish(b"1", b"2", b"3", edge=">parse")
    await Publishing(worker.broker).publish(">parse", [output(">parse", b"4")], delay_ms=60_000)
    await RecordedPlan(worker.broker).record(RENAMED)
    return worker


async def test_a_record_says_what_each_edge_takes_and_since_when(worker: Worker, redis: Command) -> None:
    assert await RecordedPlan(worker.broker).record(PLAN) == {}

    recorded = await RecordedPlan(worker.broker).edges()

    seconds, _ = await redis(b"TIME")
    assert recorded.keys() == {">parse", ">store", "parse>store"}
    assert {edge.accepts for edge in recorded.values()} == {("Item",)}
    assert all(abs(edge.seen_ms / 1000 - int(seconds)) < 5 for edge in recorded.values())


async def test_the_same_types_have_the_same_schema_and_changed_ones_another(worker: Worker) -> None:
    await RecordedPlan(worker.broker).record(PLAN)
    before = await RecordedPlan(worker.broker).record(RENAMED)
    after = await RecordedPlan(worker.broker).edges()

    assert before[">parse"].schema == before[">store"].schema
    assert after[">store"].schema != before[">store"].schema
    assert after[">parse"] == before[">parse"]


async def test_edges_without_a_stage_are_left_over_with_what_lies_on_them(renamed: Worker) -> None:
    orphans = await RecordedPlan(renamed.broker).orphans(RENAMED)

    assert [(orphan.edge, orphan.outstanding) for orphan in orphans] == [(">parse", 4), ("parse>store", 0)]
    assert await RecordedPlan(renamed.broker).orphans(PLAN) != orphans


async def test_nothing_touches_an_edge_that_is_left_over(renamed: Worker, keys: Keys, redis: Command) -> None:
    await Runs(renamed.broker).begin(
        "r1", sources=[], signature="", edges=[edge.name for edge in RENAMED.edges], stages=["clean", "store"]
    )

    assert await redis(b"XLEN", keys.edge(">parse")) == 3
    assert await redis(b"ZCARD", keys.delayed(">parse")) == 1


async def test_an_edge_is_removed_with_everything_on_it(renamed: Worker, keys: Keys, redis: Command) -> None:
    orphan, _ = await RecordedPlan(renamed.broker).orphans(RENAMED)

    assert await RecordedPlan(renamed.broker).drop(orphan)

    assert [found.edge for found in await RecordedPlan(renamed.broker).orphans(RENAMED)] == ["parse>store"]
    names = [keys.edge(">parse"), keys.delayed(">parse"), keys.delayed_bodies(">parse")]
    assert await redis(b"EXISTS", *names) == 0
    assert await redis(b"HGET", keys.stats, "purged:parse") == b"4"
    assert (await renamed.balance()).purged == 4  # a balance that adds up, for a version that has the stage
    assert not await RecordedPlan(renamed.broker).drop(orphan)


async def test_an_edge_on_which_more_lies_than_was_seen_is_kept(renamed: Worker, keys: Keys, redis: Command) -> None:
    orphan, _ = await RecordedPlan(renamed.broker).orphans(RENAMED)
    await renamed.publish(b"5", edge=">parse")

    assert not await RecordedPlan(renamed.broker).drop(orphan)
    assert await redis(b"XLEN", keys.edge(">parse")) == 4


async def test_an_edge_that_a_run_has_again_is_kept(renamed: Worker, keys: Keys, redis: Command) -> None:
    orphan, _ = await RecordedPlan(renamed.broker).orphans(RENAMED)
    before = (await RecordedPlan(renamed.broker).edges())[">parse"].seen_ms
    while (await RecordedPlan(renamed.broker).edges())[">parse"].seen_ms == before:  # until the clock has moved on
        await RecordedPlan(renamed.broker).record(PLAN)

    assert not await RecordedPlan(renamed.broker).drop(orphan)
    assert await redis(b"XLEN", keys.edge(">parse")) == 3
