"""A header that only looks like flowq's: its entry becomes a dead letter with its bytes, and the run continues."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import Pipeline, Rate, stage
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.dead_letters.dead_letters import DeadLetters
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab, items

HEADERS = {
    "f20": b"x - - 0 f=" + b"9" * 20,
    "hops20": b"x - - " + b"9" * 20,
    "a20": b"x - - 0 a=" + b"9" * 20,
    "f400": b"x - - 0 f=1" + b"0" * 400 + b" t=Nope",
    "hops5000": b"x - - " + b"9" * 5000,
    "no text": b"\xff - - 0",
    "a line break": b"x - - 0\n",
    "huge": b"x" * 100_000 + b" - - 0 a=2",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "first": {"ack": "first"},
    "batch": {"batch": 10},
    "paced": {"rate": Rate(1000, by="n", concurrency=1)},
    "kept": {"keep": 10},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_entries_with_unreadable_headers_die_and_no_other_does(options: dict[str, Any], lab: Lab) -> None:
    seen: list[int] = []

    async def store(item: Item) -> None:
        seen.append(item.n)

    async def store_many(items: list[Item]) -> None:
        seen.extend(item.n for item in items)

    stored = stage(name="store", **options)(store_many if "batch" in options else store)
    pipeline = Pipeline("p", stored)
    await lab.push(pipeline, stored, *items(3))
    edge = lab.broker(pipeline).keys.edge(">store")
    for header in HEADERS.values():
        await lab.command(b"XADD", edge, b"*", b"h", header, b"b", b'{"n":-1}')

    await lab.run(pipeline)

    letters = await lab.letters(pipeline, stored)
    assert sorted(seen) == [0, 1, 2]
    assert [letter.body for letter in letters] == [b'{"n":-1}'] * len(HEADERS)
    entries = await lab.command(b"XRANGE", lab.broker(pipeline).keys.dead("store"), b"-", b"+")
    headers = [dict(zip(fields[::2], fields[1::2], strict=True))[b"h"] for _, fields in entries]
    assert sorted(headers) == sorted(HEADERS.values())


async def test_what_is_no_message_is_not_left_to_another_version(lab: Lab) -> None:
    @stage
    async def store(item: Item) -> None: ...

    @stage(name="store")
    async def store_of_later(item: str) -> None: ...

    pipeline = Pipeline("p", store)
    async with lab.running(pipeline):
        await RecordedPlan(lab.broker(pipeline)).record(Pipeline("p", store_of_later).plan)
        edge = lab.broker(pipeline).keys.edge(">store")
        await lab.command(b"XADD", edge, b"*", b"h", HEADERS["hops20"], b"b", b'{"n":-1}')

        async def is_dead() -> bool:
            return bool(await lab.letters(pipeline, store))

        await eventually(is_dead)

    assert (await lab.letter(pipeline, store)).reason == "undecodable"


async def test_a_letter_whose_header_could_not_be_read_runs_when_it_is_put_back(lab: Lab) -> None:
    seen: list[int] = []

    @stage
    async def store(item: Item) -> None:
        seen.append(item.n)

    pipeline = Pipeline("p", store)
    edge = lab.broker(pipeline).keys.edge(">store")
    await lab.command(b"XADD", edge, b"*", b"h", HEADERS["hops5000"], b"b", b'{"n":7}')
    await lab.run(pipeline)
    assert seen == []

    await DeadLetters(pipeline.plan, lab.broker(pipeline)).put_back()
    await lab.run(pipeline)
    assert seen == [7]
