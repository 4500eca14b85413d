"""Batches of which messages fail: those cost themselves, and few calls."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from flowq import BatchFailed, Context, Pipeline, Reject, Retry, stage
from tests.runtime.kit import Kit
from tests.runtime.lab import Item, Lab, items
from tests.runtime.record import collecting

ONCE = Retry(attempts=1)


async def test_one_bad_row_in_a_thousand_costs_itself_and_few_calls(lab: Lab) -> None:
    stored: Counter[int] = Counter()
    calls = 0

    @stage(batch=1000, linger=2, concurrency=1, retry=ONCE)
    async def store(batch: list[Item]) -> None:
        nonlocal calls
        calls += 1
        if any(item.n == 637 for item in batch):
            raise ValueError("row 637")
        stored.update(item.n for item in batch)

    pipeline = Pipeline("p", store)
    summary = await lab.run(pipeline, *items(1000))

    assert stored == Counter(n for n in range(1000) if n != 637)
    assert (summary.stages["store"].ok, summary.dead) == (999, 1)
    assert (await lab.letter(pipeline, store)).message == {"n": 637}
    assert calls <= 1 + 2 * 10


async def test_the_bad_row_is_tried_again_alone_or_with_others_until_its_attempts_are_exhausted(lab: Lab) -> None:
    tries: Counter[int] = Counter()

    @stage(batch=10, linger=0.05, concurrency=1, retry=Retry(attempts=3, base=0, max=0))
    async def store(batch: list[Item]) -> None:
        if any(item.n == 3 for item in batch):
            if len(batch) == 1:
                tries[3] += 1
            raise ConnectionError

    pipeline = Pipeline("p", store)
    await lab.run(pipeline, *items(10))

    assert tries == {3: 3}
    assert (await lab.letter(pipeline, store)).attempts == 3


async def test_a_row_that_cannot_be_read_does_not_reach_the_handler(lab: Lab) -> None:
    stored: list[int] = []

    @stage(batch=10, linger=0.05)
    async def store(batch: list[Item]) -> None:
        stored.extend(item.n for item in batch)

    pipeline = Pipeline("p", store)
    await lab.command(b"XADD", lab.broker(pipeline).keys.edge(">store"), b"*", b"b", b"no json")
    await lab.run(pipeline, *items(5))

    assert sorted(stored) == list(range(5))
    assert (await lab.letter(pipeline, store)).reason == "undecodable"


async def test_a_batch_taken_apart_gives_the_outputs_of_its_good_parts(lab: Lab) -> None:
    sink, got = collecting()

    @stage(batch=8, linger=0.1, concurrency=1, retry=ONCE)
    async def double(batch: list[Item]) -> AsyncIterator[Item]:
        for item in batch:
            if item.n == 5:
                raise ValueError
            yield Item(n=2 * item.n)

    await lab.run(Pipeline("p", double >> sink), *items(8))

    assert sorted(got) == [0, 2, 4, 6, 8, 12, 14]


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_batch_always_too_slow_is_taken_apart_in_its_last_attempt(attempts: int, kit: Kit) -> None:
    @stage(batch=20, linger=60, concurrency=1, timeout="10m", retry=Retry(attempts=attempts, base=0, max=0))
    async def slow(batch: list[Item]) -> None:
        await asyncio.Event().wait()

    async with kit(Pipeline("p", slow)) as h:
        await h.feed(slow, *items(20))
        await h.drain()

        calls = Counter(call.attempt for call in h.calls(slow))
        assert [calls[attempt] for attempt in (1, 2)] == ([15, 0] if attempts == 1 else [1, 15])
        assert [dead.error for dead in h.dead()] == ["HandlerTimeout: ran longer than 600 s"] * 20


async def test_a_row_that_hangs_costs_no_other_row(kit: Kit) -> None:
    @stage(batch=20, linger=60, concurrency=1, timeout="10m", retry=ONCE)
    async def wait(batch: list[Item]) -> None:
        if any(item.n == 7 for item in batch):
            await asyncio.Event().wait()

    async with kit(Pipeline("p", wait)) as h:
        await h.feed(wait, *items(20))
        await h.drain()

        h.expect(wait).any_order([item for item in items(20) if item.n != 7])
        assert [dead.message for dead in h.dead()] == [Item(n=7)]


async def test_a_row_that_hangs_on_a_thread_costs_no_other_row(lab: Lab) -> None:
    never = threading.Event()

    @stage(batch=20, linger=60, concurrency=1, timeout=1, retry=ONCE)
    def wait(batch: list[Item]) -> None:
        if any(item.n == 7 for item in batch):
            never.wait()

    pipeline = Pipeline("p", wait)
    try:
        summary = await lab.run(pipeline, *items(20))
    finally:
        never.set()

    assert (summary.stages["wait"].ok, summary.dead) == (19, 1)
    assert (await lab.letter(pipeline, wait)).body == b'{"n":7}'


async def test_a_batch_that_fails_whatever_is_in_it_is_soon_left_to_its_next_attempt(lab: Lab) -> None:
    calls: Counter[int] = Counter()

    @stage(batch=100, linger=60, concurrency=1, retry=Retry(attempts=2, base=0, max=0))
    async def store(batch: list[Item], ctx: Context) -> None:
        calls[ctx.attempt] += 1
        raise ConnectionError("the database is gone")

    pipeline = Pipeline("p", store)
    summary = await lab.run(pipeline, *items(100))

    assert calls[1] == 15
    assert calls[2] <= 199
    assert summary.dead == 100


@pytest.mark.parametrize("attempts", [1, 3])
async def test_many_bad_rows_cost_no_good_one(attempts: int, lab: Lab) -> None:
    @stage(batch=100, linger=60, concurrency=1, retry=Retry(attempts=attempts, base=0, max=0))
    async def store(batch: list[Item]) -> None:
        if any(item.n % 10 == 3 for item in batch):
            raise ValueError

    pipeline = Pipeline("p", store)
    summary = await lab.run(pipeline, *items(100))

    assert (summary.stages["store"].ok, summary.dead) == (90, 10)
    assert {letter.message["n"] % 10 for letter in await lab.letters(pipeline, store)} == {3}


async def test_many_rejected_rows_are_told_apart_at_once(lab: Lab) -> None:
    @stage(batch=100, linger=60, concurrency=1)
    async def store(batch: list[Item]) -> None:
        if any(item.n % 2 for item in batch):
            raise Reject("odd")

    summary = await lab.run(Pipeline("p", store), *items(100))

    assert (summary.stages["store"].ok, summary.dead, summary.stages["store"].retries) == (50, 50, 0)


async def test_a_batch_that_tells_which_messages_failed_is_not_called_again_for_the_others(any_lab: Lab) -> None:
    calls: list[list[int]] = []

    @stage(batch=10, linger=0.1, concurrency=1, retry=Retry(attempts=2, base=0, max=0))
    async def store(batch: list[Item]) -> None:
        calls.append([item.n for item in batch])
        errors: dict[int, Exception] = {}
        for index, item in enumerate(batch):
            if item.n == 2:
                errors[index] = Reject("gone")
            elif item.n == 5:
                errors[index] = ConnectionError("deadlock")
        if errors:
            raise BatchFailed(errors)

    pipeline = Pipeline("p", store)
    summary = await any_lab.run(pipeline, *items(10))

    assert Counter(n for call in calls for n in call) == Counter({n: 2 if n == 5 else 1 for n in range(10)})
    assert (summary.stages["store"].ok, summary.stages["store"].retries) == (8, 1)
    letters = {letter.message["n"]: letter for letter in await any_lab.letters(pipeline, store)}
    assert {n: (letter.reason, letter.attempts) for n, letter in letters.items()} == {
        2: ("rejected", 1),
        5: ("attempts exhausted", 2),
    }


async def test_outputs_of_the_good_messages_of_a_batch_are_sent(lab: Lab) -> None:
    sink, got = collecting()

    @stage(batch=4, linger=0.1, concurrency=1)
    async def double(batch: list[Item]) -> list[Item]:
        raise BatchFailed({0: Reject("first")}, outputs=[Item(n=2 * item.n) for item in batch[1:]])

    summary = await lab.run(Pipeline("p", double >> sink), *items(4))

    assert len(got) == 3
    assert (summary.stages["double"].ok, summary.dead) == (3, 1)


class Unusual(BatchFailed):
    """Does not begin as its base would have it."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"errors": None},
        {"errors": {0.0: ValueError()}},
        {"errors": {"0": ValueError(), 1: ValueError()}},
        {"errors": {0: "no error"}},
        {"errors": {0: ValueError}},
        {"errors": {0: ValueError()}},
        {"errors": {0: ValueError()}, "outputs": 5},
    ],
    ids=str,
)
async def test_a_batch_failure_that_tells_nonsense_costs_only_the_batch(attributes: dict[str, Any], lab: Lab) -> None:
    @stage(batch=3, linger=60, retry=Retry(attempts=1))
    async def store(batch: list[Item]) -> list[Item]:
        raise Unusual(**attributes)

    @stage
    async def sink(item: Item) -> None: ...

    summary = await lab.run(Pipeline("p", store >> sink), *items(3))

    assert summary.dead == 3


@pytest.mark.parametrize(
    "errors", [{0: "no error"}, {"0": ValueError()}, {0: ValueError}, {0.0: ValueError()}], ids=str
)
def test_a_failure_of_a_batch_names_indices_and_errors(errors: Any) -> None:
    with pytest.raises(TypeError, match="a message index and an exception are needed"):
        BatchFailed(errors)


async def test_a_message_that_is_not_in_the_batch_fails_all_of_it(lab: Lab) -> None:
    @stage(batch=3, linger=0.1, concurrency=1, retry=ONCE)
    async def store(batch: list[Item]) -> None:
        raise BatchFailed({3: ValueError("one too far")})

    pipeline = Pipeline("p", store)
    await lab.run(pipeline, *items(3))

    errors = {letter.error for letter in await lab.letters(pipeline, store)}
    assert errors == {"IndexError: BatchFailed names message 3 of a batch of 3"}
