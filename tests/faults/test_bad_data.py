"""Bad data in Redis and from handlers: a bad message costs itself, never its neighbours."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from flowq import Context, Pipeline, Retry, stage
from flowq.broker.publishing import Publishing
from flowq.delivery.settlement import Output
from flowq.errors import EncodeError, PayloadTooLarge
from tests.conftest import Servers
from tests.eventually import eventually
from tests.redis_server import KINDS
from tests.runtime.lab import Item, Lab, Other

LONGEST_BLOCK_SECONDS = 1.0
NEIGHBOURS = 20


@dataclass
class Whole:
    """A message of every kind that JSON has."""

    value: int | float | str | list[Any] | dict[str, Any]


@pytest.fixture(params=KINDS)
async def lab(request: pytest.FixtureRequest, redis_server: Servers, unique_namespace: str) -> AsyncIterator[Lab]:
    lab = Lab.at(redis_server(request.param).url, unique_namespace)
    yield lab
    await lab.close()


async def add(lab: Lab, pipeline: Pipeline, **fields: bytes) -> bytes:
    """An entry that some other program appends to the inlet of the first stage; its id."""
    edge = lab.broker(pipeline).keys.edge(f">{pipeline.plan.consumers[0].name}")
    flat = [word for name, value in fields.items() for word in (name.encode(), value)]
    entry_id: bytes = await lab.command(b"XADD", edge, b"*", *flat)
    return entry_id


UNREADABLE = {
    "not utf-8": b'{"n":"\xff\xfe"}',
    "binary": bytes(range(256)),
    "empty": b"",
    "nan": b'{"n":NaN}',
    "infinity": b'{"n":Infinity}',
    "five thousand digits": b'{"n":' + b"9" * 5000 + b".5}",
    "a hundred thousand deep": b'{"n":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "half a surrogate": rb'{"n":"\ud800"}',
    "cut off": b'{"n":1',
    "another type": b'{"text":"x","n":null}',
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_bytes_that_are_no_message_die_with_every_byte_kept_and_harm_no_neighbour(body: bytes, lab: Lab) -> None:
    got: list[int] = []

    @stage(concurrency=4)
    async def sink(item: Item) -> None:
        got.append(item.n)

    pipeline = Pipeline("p", sink)
    await lab.push(pipeline, sink, *[Item(n=n) for n in range(NEIGHBOURS // 2)])
    await add(lab, pipeline, b=body)
    await lab.push(pipeline, sink, *[Item(n=n) for n in range(NEIGHBOURS // 2, NEIGHBOURS)])
    await lab.run(pipeline)

    assert sorted(got) == list(range(NEIGHBOURS))
    letter = await lab.letter(pipeline, sink)
    assert (letter.reason, letter.body) == ("undecodable", body)


async def test_an_entry_without_a_body_dies_with_the_fields_it_has(lab: Lab) -> None:
    @stage
    async def sink(item: Item) -> None: ...

    pipeline = Pipeline("p", sink)
    await add(lab, pipeline, h=b"x", v=b"\xff\xfe")
    await lab.run(pipeline)

    ((_, letter),) = await lab.command(b"XRANGE", lab.broker(pipeline).keys.dead("sink"), b"-", b"+")
    kept = dict(zip(letter[::2], letter[1::2], strict=True))
    assert kept[b"f:v"] == b"\xff\xfe"


EXACT: list[Any] = [
    2**53 + 1, -(2**63), 10**400, 1e-320, 0.1, "", "\x00\x1f\u2028\U0001f600", [], {}, [[], {}], {"": {"a": []}},
]  # fmt: skip


async def test_values_at_the_edge_of_json_go_through_two_stages_unchanged(lab: Lab) -> None:
    got: list[Any] = []

    @stage
    async def hand_on(whole: Whole) -> Whole:
        return whole

    @stage
    async def keep(whole: Whole) -> None:
        got.append(whole.value)

    pipeline = Pipeline("p", hand_on >> keep)
    await lab.run(pipeline, *[Whole(value) for value in EXACT])

    assert sorted(map(repr, got)) == sorted(map(repr, EXACT))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_a_number_that_json_lacks_is_refused_where_it_is_given_and_never_changed(number: float, lab: Lab) -> None:
    @stage
    async def divide(item: Item) -> Whole:
        return Whole(number)

    @stage
    async def keep(whole: Whole) -> None:
        raise AssertionError(whole)

    pipeline = Pipeline("p", divide >> keep)
    with pytest.raises(EncodeError, match="would not arrive unchanged"):
        await lab.push(pipeline, keep, Whole(number))
    await lab.run(pipeline, Item())

    assert (await lab.letter(pipeline, divide)).reason == "unencodable"


async def test_the_last_of_two_equal_names_counts(lab: Lab) -> None:
    got: list[int] = []

    @stage
    async def sink(item: Item) -> None:
        got.append(item.n)

    pipeline = Pipeline("p", sink)
    await add(lab, pipeline, b=b'{"n":1,"n":2}')
    await lab.run(pipeline)

    assert got == [2]


HEADERS = {
    "text": b"hello there my friend",
    "control characters": b"a\tb c - 0",
    "no header of ours": b"\xff\xfe",
    "too few words": b"m1",
    "a number that is none": b"m1 m1 - many",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
async def test_a_message_with_an_odd_header_is_handled_retried_and_passed_on(header: bytes, lab: Lab) -> None:
    got: list[int] = []

    @stage(retry=Retry(attempts=2, base=0.001, max=0.001))
    async def flaky(item: Item, ctx: Context) -> Item:
        if ctx.attempt == 1:
            raise ConnectionError
        return item

    @stage
    async def keep(item: Item) -> None:
        got.append(item.n)

    pipeline = Pipeline("p", flaky >> keep)
    await add(lab, pipeline, h=header, b=b'{"n":7}')
    await lab.run(pipeline)

    assert got == [7]


async def test_words_of_a_later_version_come_out_of_the_dead_letters_again(lab: Lab) -> None:
    @stage(retry=Retry(attempts=2, base=0.001, max=0.001))
    async def broken(item: Item) -> None:
        raise ConnectionError

    pipeline = Pipeline("p", broken)
    await Publishing(lab.broker(pipeline)).publish(">broken", [Output(">broken", b"m1 m1 - 0 z=new y", b'{"n":7}')])
    await lab.run(pipeline)

    ((_, letter),) = await lab.command(b"XRANGE", lab.broker(pipeline).keys.dead("broken"), b"-", b"+")
    assert {b"z=new", b"y"} <= set(letter[letter.index(b"h") + 1].split())


@pytest.mark.parametrize("size", [1_000_001, 10_000_000])
async def test_a_message_that_is_too_large_is_refused_where_it_is_published(size: int, lab: Lab) -> None:
    @stage
    async def sink(other: Other) -> None: ...

    pipeline = Pipeline("p", sink)
    with pytest.raises(PayloadTooLarge, match="at most 1,000,000") as refusal:
        await lab.push(pipeline, sink, Other(text="x" * size))

    assert "reference" in refusal.value.hint
    assert (await lab.balance(pipeline))["sink"].entered == 0


async def test_what_cannot_be_written_as_json_is_refused_where_it_is_published(lab: Lab) -> None:
    deep: list[Any] = []
    for _ in range(sys.getrecursionlimit() * 10):
        deep = [deep]

    @stage
    async def sink(message: Whole) -> None: ...

    pipeline = Pipeline("p", sink)
    for value in ("\ud800", deep, {"key": object()}):
        with pytest.raises(EncodeError, match="Whole"):
            await lab.push(pipeline, sink, Whole(value))

    assert (await lab.balance(pipeline))["sink"].entered == 0


async def test_a_message_deleted_by_hand_while_it_runs_succeeds_or_leaves_a_letter(lab: Lab) -> None:
    running, go_on = asyncio.Event(), asyncio.Event()
    got: list[int] = []

    @stage(retry=Retry(attempts=3, base=0.001, max=0.001))
    async def fickle(item: Item) -> Item:
        running.set()
        await go_on.wait()
        if item.n == 1:
            raise ConnectionError
        return item

    @stage
    async def keep(item: Item) -> None:
        got.append(item.n)

    pipeline = Pipeline("p", fickle >> keep)
    ids = [await add(lab, pipeline, b=b'{"n":%d}' % n) for n in range(2)]
    run = asyncio.create_task(lab.run(pipeline))
    await running.wait()
    await eventually(lambda: lab_is_running(lab, pipeline, 2))
    await lab.command(b"XDEL", lab.broker(pipeline).keys.edge(">fickle"), *ids)
    go_on.set()
    await run

    assert got == [0]
    assert len(await lab.letters(pipeline, fickle)) == 1


async def lab_is_running(lab: Lab, pipeline: Pipeline, n: int) -> bool:
    return (await lab.balance(pipeline))["fickle"].running == n


async def test_fifty_thousand_outputs_of_one_message_arrive_without_blocking_the_server(lab: Lab) -> None:
    got = 0

    @stage
    async def burst(item: Item) -> AsyncIterator[Item]:
        for n in range(50_000):
            yield Item(n=n)

    @stage(batch=1000)
    async def sink(batch: list[Item]) -> None:
        nonlocal got
        got += len(batch)

    await lab.command(b"CONFIG", b"SET", b"slowlog-log-slower-than", 50_000)
    longest_seconds = list[float]()
    while not longest_seconds or (longest_seconds[-1] >= LONGEST_BLOCK_SECONDS and len(longest_seconds) < 3):
        got = 0
        await lab.command(b"SLOWLOG", b"RESET")
        await lab.run(Pipeline("p", burst >> sink), Item())
        assert got == 50_000
        took_seconds = [entry[2] / 1e6 for entry in await lab.command(b"SLOWLOG", b"GET", 128)]
        assert took_seconds, "the step that settles is seen in the slow log"
        longest_seconds.append(max(took_seconds))

    assert min(longest_seconds) < LONGEST_BLOCK_SECONDS, "a busy machine stops the server in the middle, but not always"
