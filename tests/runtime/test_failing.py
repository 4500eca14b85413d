"""Every way in which a handler may fail: it is retried as declared or dies, and costs only its own message."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from flowq import Context, Pipeline, Rate, Reject, Retry, RetryLater, stage
from tests.runtime.kit import Kit, seconds_between
from tests.runtime.lab import Item, Lab, items

NO_WAIT = Retry(attempts=3, base=0, max=0)
ONCE = Retry(attempts=1)


async def test_a_failure_is_tried_again_until_it_succeeds(any_lab: Lab) -> None:
    attempts: list[tuple[str, int]] = []

    @stage(retry=NO_WAIT)
    async def flaky(item: Item, ctx: Context) -> None:
        attempts.append((ctx.message_id, ctx.attempt))
        if ctx.attempt < 3:
            raise ConnectionError("try again")

    summary = await any_lab.run(Pipeline("p", flaky), Item())

    assert [attempt for _, attempt in attempts] == [1, 2, 3]
    assert len({message_id for message_id, _ in attempts}) == 1
    assert (summary.stages["flaky"].ok, summary.stages["flaky"].retries) == (1, 2)


async def test_a_message_whose_attempts_are_exhausted_is_dead_with_everything_about_it(any_lab: Lab) -> None:
    @stage(retry=NO_WAIT)
    async def broken(item: Item) -> None:
        raise ConnectionError("no luck")

    pipeline = Pipeline("p", broken)
    summary = await any_lab.run(pipeline, Item(n=5))

    assert (summary.dead, summary.stages["broken"].retries) == (1, 2)
    letter = await any_lab.letter(pipeline, broken)
    assert (letter.reason, letter.error) == ("attempts exhausted", "ConnectionError: no luck")
    assert (letter.attempts, letter.body, letter.edge) == (3, b'{"n":5}', ">broken")
    assert "raise ConnectionError" in letter.traceback
    assert letter.first_at <= letter.died_at


async def test_the_backoff_between_attempts_grows_as_declared(kit: Kit) -> None:
    @stage(retry=Retry(attempts=6, base="1m", max="10m", jitter=False))
    async def broken(item: Item) -> None:
        raise ConnectionError

    async with kit(Pipeline("p", broken)) as h:
        await h.feed(broken, Item())
        await h.drain()

        assert [round(wait) for wait in seconds_between(h.calls(broken))] == [60, 120, 240, 480, 600]


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        (KeyError("id"), Retry(attempts=3, base=0, max=0, give_up_on=LookupError)),
        (KeyError("id"), Retry(attempts=3, base=0, max=0, on=OSError)),
        (Reject("HTTP 404"), NO_WAIT),
    ],
    ids=["give_up_on", "on", "Reject"],
)
async def test_what_is_not_worth_another_try_dies_at_once(error: Exception, retry: Retry, lab: Lab) -> None:
    runs = 0

    @stage(retry=retry)
    async def hopeless(item: Item) -> None:
        nonlocal runs
        runs += 1
        raise error

    pipeline = Pipeline("p", hopeless)
    await lab.run(pipeline, Item())

    assert runs == 1
    assert str(error) in (await lab.letter(pipeline, hopeless)).error


async def test_a_failed_validation_is_never_tried_again(lab: Lab) -> None:
    @stage(retry=NO_WAIT)
    async def validating(item: Item) -> None:
        Item.model_validate({"n": "no number"})

    pipeline = Pipeline("p", validating)
    summary = await lab.run(pipeline, Item())

    assert summary.stages["validating"].retries == 0
    assert (await lab.letter(pipeline, validating)).attempts == 1


async def test_a_message_that_asks_for_later_is_run_then_and_the_attempt_counts(kit: Kit) -> None:
    @stage(retry=Retry(attempts=3))
    async def throttled(item: Item) -> None:
        raise RetryLater("busy", after="6h")

    async with kit(Pipeline("p", throttled)) as h:
        await h.feed(throttled, Item())
        await h.drain()

        assert [round(wait) for wait in seconds_between(h.calls(throttled))] == [21_600, 21_600]
        assert [dead.error for dead in h.dead()] == ["RetryLater: busy"]


async def test_a_hold_does_not_count_as_an_attempt(kit: Kit) -> None:
    n_calls = 0

    @stage(retry=Retry(attempts=2), rate=Rate(1000, by="n"))
    async def throttled(item: Item) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls < 5:
            raise RetryLater("busy", after="1h", hold="n")

    async with kit(Pipeline("p", throttled)) as h:
        await h.feed(throttled, Item())
        await h.drain()

        assert [call.attempt for call in h.calls(throttled)] == [1] * 5
        assert [round(wait) for wait in seconds_between(h.calls(throttled))] == [3600] * 4
        assert h.balance()["throttled"].ok == 1


@pytest.mark.parametrize("after", [math.inf, math.nan, -1.0])
async def test_no_delay_that_a_handler_asks_for_stops_the_stage(after: float, lab: Lab) -> None:
    @stage(retry=Retry(attempts=2, base=0, max=0))
    async def odd(item: Item) -> None:
        if item.n == 0:
            raise RetryLater(after=after)

    summary = await lab.run(Pipeline("p", odd), *items(3))

    assert (summary.stages["odd"].ok, summary.dead) == (2, 1)


async def test_a_handler_that_takes_too_long_is_stopped_and_tried_again(kit: Kit) -> None:
    @stage(timeout="1h", retry=Retry(attempts=2, base=0, max=0))
    async def slow(item: Item) -> None:
        await asyncio.sleep(7200)

    async with kit(Pipeline("p", slow)) as h:
        await h.feed(slow, Item())
        await h.drain()

        assert [call.attempt for call in h.calls(slow)] == [1, 2]
        assert [round(wait) for wait in seconds_between(h.calls(slow))] == [3600]
        assert [dead.error for dead in h.dead()] == ["HandlerTimeout: ran longer than 3600 s"]


async def test_a_timeout_error_of_the_handlers_own_is_not_taken_for_the_stages(lab: Lab) -> None:
    @stage(timeout=5, retry=ONCE)
    async def own(item: Item) -> None:
        raise TimeoutError("upstream")

    pipeline = Pipeline("p", own)
    await lab.run(pipeline, Item())

    assert (await lab.letter(pipeline, own)).error == "TimeoutError: upstream"


async def test_a_thread_that_takes_too_long_does_not_take_the_time_of_the_next(lab: Lab) -> None:
    free = threading.Event()
    runs: Counter[int] = Counter()

    @stage(timeout=0.1, concurrency=1, retry=ONCE)
    def slow(item: Item) -> None:
        runs[item.n] += 1
        if item.n == 0:
            free.wait(60)

    pipeline = Pipeline("p", slow)
    try:
        await lab.run(pipeline, *items(4))
    finally:
        free.set()

    assert runs == {0: 1, 1: 1, 2: 1, 3: 1}
    assert [letter.message for letter in await lab.letters(pipeline, slow)] == [{"n": 0}]


class Unpleasant(BaseException):
    """Not a subclass of Exception."""


ERRORS: tuple[type[BaseException], ...] = (
    ValueError, StopIteration, StopAsyncIteration, SystemExit, KeyboardInterrupt, GeneratorExit,
    asyncio.CancelledError, Unpleasant,
)  # fmt: skip


def raising_handlers() -> list[Any]:  # noqa: C901  (one small function for each shape)
    """A handler of each shape that raises one of the errors for each of the first messages, and succeeds for others."""

    def trip(item: Item) -> None:
        if item.n < len(ERRORS):
            raise ERRORS[item.n]

    once = stage(retry=ONCE, concurrency=1)

    @once
    async def coroutine(item: Item) -> None:
        trip(item)

    @once
    async def async_generating(item: Item) -> AsyncIterator[Item]:
        trip(item)
        yield item

    @once
    def threaded(item: Item) -> None:
        trip(item)

    @once
    def generating(item: Item) -> Iterator[Item]:
        trip(item)
        yield item

    @stage(retry=ONCE, concurrency=1, inline=True)
    def inline(item: Item) -> None:
        trip(item)

    @stage(retry=ONCE, concurrency=1, inline=True)
    def inline_generating(item: Item) -> Iterator[Item]:
        trip(item)
        yield item

    @stage(retry=ONCE, concurrency=1, batch=1)
    async def batched(batch: list[Item]) -> None:
        trip(batch[0])

    @stage(retry=ONCE, concurrency=1, timeout=5)
    async def timed(item: Item) -> None:
        trip(item)

    @stage(concurrency=1, ack="first")
    async def acked_first(item: Item) -> None:
        trip(item)

    @stage(retry=ONCE, concurrency=1, ack="manual")
    async def acked_by_hand(item: Item, ctx: Context) -> None:
        trip(item)
        await ctx.ack()

    return [
        coroutine, async_generating, threaded, generating, inline, inline_generating,
        batched, timed, acked_first, acked_by_hand,
    ]  # fmt: skip


@pytest.mark.parametrize("handler", raising_handlers(), ids=lambda handler: handler.name)
async def test_whatever_a_handler_raises_costs_only_its_own_message(handler: Any, lab: Lab) -> None:
    pipeline = Pipeline("p", handler)

    summary = await lab.run(pipeline, *items(len(ERRORS) + 3))

    assert summary.stages[handler.name].entered == len(ERRORS) + 3
    letters = await lab.letters(pipeline, handler)
    assert sorted(letter.message["n"] for letter in letters) == list(range(len(ERRORS)))


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot even say what is wrong")


@pytest.mark.parametrize("error", [Unprintable(), ValueError("\ud800")], ids=["no text", "surrogate"])
async def test_an_error_that_cannot_be_written_down_costs_only_its_own_message(error: Exception, lab: Lab) -> None:
    @stage(retry=ONCE)
    async def odd(item: Item) -> None:
        if item.n == 0:
            raise error

    summary = await lab.run(Pipeline("p", odd), *items(3))

    assert (summary.stages["odd"].ok, summary.dead) == (2, 1)


async def test_reject_and_later_in_a_task_group_are_what_they_are_alone(lab: Lab) -> None:
    calls: list[int] = []

    async def reject() -> None:
        raise Reject("HTTP 410")

    async def later() -> None:
        raise RetryLater("busy", after=0.01)

    @stage(retry=Retry(attempts=2, base=0, max=0))
    async def handler(item: Item) -> None:
        calls.append(item.n)
        async with asyncio.TaskGroup() as group:
            group.create_task(later() if item.n else reject())

    pipeline = Pipeline("p", handler)
    await lab.run(pipeline, Item(n=0), Item(n=1))

    assert sorted(calls) == [0, 1, 1]
    letters = {letter.message["n"]: letter for letter in await lab.letters(pipeline, handler)}
    assert (letters[0].reason, letters[0].error) == ("rejected", "Reject: HTTP 410")
    assert (letters[1].reason, letters[1].error) == ("attempts exhausted", "RetryLater: busy")


@pytest.mark.parametrize("rate", [Rate(1000, by="n"), Rate(1000)], ids=["another by", "no by"])
async def test_a_hold_of_what_the_rate_does_not_go_by_is_refused_at_once(rate: Rate, lab: Lab) -> None:
    calls: list[int] = []

    @stage(rate=rate)
    async def handler(item: Item) -> None:
        calls.append(item.n)
        raise RetryLater("HTTP 429", after=60, hold="no_such_field")

    pipeline = Pipeline("p", handler)
    await lab.run(pipeline, Item())

    letter = await lab.letter(pipeline, handler)
    assert calls == [0]
    assert (letter.reason, letter.error_type) == ("not retryable", "UsageError")
    assert 'hold="no_such_field"' in letter.error
