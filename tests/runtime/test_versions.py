"""Two versions of a pipeline at once: each leaves to the other what it cannot read."""

from __future__ import annotations

import logging

import pytest
from pydantic import BaseModel

import flowq
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.publishing import Publishing
from flowq.delivery.message import Header
from flowq.delivery.settlement import Output
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab, Other

TWO_HOURS_MS = 7_200_000


class Image(BaseModel):
    """A type that only the new version has. Its body would pass for an `Other`."""

    text: str


class Numbered(BaseModel):
    """A type whose field the new version has renamed."""

    n: int


class Renamed(BaseModel):
    """The same in the new version."""

    number: int


taken: list[tuple[str, object]] = []


@pytest.fixture(autouse=True)
def _nothing_taken() -> None:
    taken.clear()


@flowq.stage(name="parse")
def parse_old(message: Item | Other) -> None:
    taken.append(("old", message))


@flowq.stage(name="parse")
def parse_new(message: Item | Other | Image) -> None:
    taken.append(("new", message))


@flowq.stage(name="parse")
def parse_one(message: Other) -> None:
    taken.append(("one", message))


@flowq.stage(name="parse")
def parse_renamed(message: Renamed) -> None:
    taken.append(("renamed", message))


@flowq.stage(name="parse")
def parse_item(message: Numbered) -> None:
    taken.append(("item", message))


@flowq.stage(name="parse", batch=10, linger=0.01)
def parse_batch(messages: list[Numbered]) -> None:
    taken.extend(("item", message) for message in messages)


OLD, NEW, ONE, RENAMED, ITEM, BATCH = (
    flowq.Pipeline("lab", stage) for stage in (parse_old, parse_new, parse_one, parse_renamed, parse_item, parse_batch)
)


async def delayed(lab: Lab, pipeline: flowq.Pipeline) -> int:
    return (await lab.balance(pipeline))["parse"].delayed


@pytest.mark.parametrize("old", [OLD, ONE], ids=["several types", "one type"])
async def test_a_message_of_a_type_that_only_the_new_version_has_waits_for_it(old: flowq.Pipeline, lab: Lab) -> None:
    async with lab.running(old):
        await lab.push(NEW, parse_new, Image(text="a"))
        await eventually(lambda: delayed(lab, old))
        assert taken == []
    async with lab.running(NEW):
        await eventually(lambda: taken)

    assert taken == [("new", Image(text="a"))]
    assert (await lab.balance(NEW))["parse"].dead == 0


async def test_what_both_versions_know_is_handled_by_either(lab: Lab) -> None:
    async with lab.running(OLD):
        await lab.push(NEW, parse_new, Item(n=1), Other(text="b"))
        await eventually(lambda: len(taken) == 2)

    assert {type(message) for _, message in taken} == {Item, Other}


async def test_a_type_that_no_version_has_any_more_is_read_by_its_shape_when_it_is_old(lab: Lab) -> None:
    header = Header("m1", "m1", "-", 0, first_ms=1, type_tag="Text")
    broker = lab.broker(OLD)
    await Publishing(broker).publish(">parse", [Output(">parse", header.encode(), b'{"text":"long ago"}')])
    async with lab.running(OLD):
        await eventually(lambda: taken)

    assert taken == [("old", Other(text="long ago"))]


@pytest.mark.parametrize("old", [ITEM, BATCH], ids=["one by one", "in batches"])
async def test_what_does_not_fit_is_left_to_the_version_that_has_begun_since(old: flowq.Pipeline, lab: Lab) -> None:
    await RecordedPlan(lab.broker(old)).record(old.plan)
    async with lab.running(old):
        await RecordedPlan(lab.broker(RENAMED)).record(RENAMED.plan)
        await lab.push(RENAMED, parse_renamed, Renamed(number=7))
        await eventually(lambda: delayed(lab, old))
    async with lab.running(RENAMED):
        await eventually(lambda: taken)

    assert taken == [("renamed", Renamed(number=7))]


async def test_what_does_not_fit_the_version_that_began_last_is_a_dead_letter(lab: Lab) -> None:
    await RecordedPlan(lab.broker(RENAMED)).record(RENAMED.plan)
    await RecordedPlan(lab.broker(ITEM)).record(ITEM.plan)
    async with lab.running(ITEM):
        await lab.push(RENAMED, parse_renamed, Renamed(number=7))
        await eventually(lambda: lab.letters(ITEM, parse_item))

    assert (await lab.letter(ITEM, parse_item)).reason == "undecodable"


async def test_messages_left_to_another_version_are_reported_once_per_edge(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="flowq.runtime"):
        async with lab.running(OLD):
            await lab.push(NEW, parse_new, Image(text="a"), Image(text="b"))
            await eventually(lambda: _are(lab, 2))

    told = [record.getMessage() for record in caplog.records if "other versions" in record.getMessage()]
    assert told == [">parse: leaving unreadable messages to other versions for 60 minutes: parse does not accept Image"]


async def _are(lab: Lab, n: int) -> bool:
    return await delayed(lab, OLD) == n
