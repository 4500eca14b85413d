"""A harness never hangs: it names what is stuck, and why."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from typing import Any

import pytest

from flowq import Pipeline, Rate, Retry, RetryLater, stage
from flowq.graph.declaration.flow import Accepts
from flowq.testing import NotDrained, WorkerEnded, harness


@stage
async def keep(number: int) -> None: ...


async def stuck(work: Accepts[int], *, is_paused: bool = False) -> str:
    """The text of the error that a harness raises for what is left of one message, 7."""
    async with harness(Pipeline("p", work)) as h:  # type: ignore[arg-type]
        if is_paused:
            await h.pause()
            await h.advance(seconds=2)
        await h.feed(work, 7)
        with pytest.raises(NotDrained) as caught:
            await h.drain(limit=1000)
        assert len(h.trace) < 2000
        if is_paused:
            await h.resume()
            await h.drain()
            return str(caught.value)
        raise Seen(str(caught.value))


class Seen(Exception):
    """Ends a harness that cannot be drained."""


async def text_of(work: Accepts[int]) -> str:
    with pytest.raises(Seen) as caught:
        await stuck(work)
    return str(caught.value)


async def test_a_handler_that_never_returns_is_named_with_its_message() -> None:
    @stage
    async def endless(number: int) -> None:
        await asyncio.Event().wait()

    text = await text_of(endless)

    assert "error[FQ601]: 1 in endless cannot be drained: nothing can happen any more" in text
    assert "endless: 7, attempt 1," in text
    assert "its handler has not returned, called" in text


async def test_a_handler_that_polls_for_ever_is_named() -> None:
    @stage
    async def polls(number: int) -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    assert "polls: 7, attempt 1," in await text_of(polls)


async def test_a_handler_that_ignores_its_cancellation_is_named_and_has_ended_with_its_harness() -> None:
    slots: list[Any] = []

    @stage
    async def ignores(number: int) -> None:
        task = asyncio.current_task()
        assert task
        slots.append(task.get_coro())
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    assert "ignores: 7, attempt 1," in await text_of(ignores)
    assert inspect.getcoroutinestate(slots[0]) == inspect.CORO_CLOSED


async def test_a_message_that_is_tried_again_for_ever_is_named_with_its_time() -> None:
    @stage(retry=Retry(attempts=1_000_000, base="1h", max="1h"))
    async def failing(number: int) -> None:
        raise OSError("down")

    text = await text_of(failing)

    assert "no message came to its end in 1,000 calls to Redis" in text
    assert "failing: 7, attempt" in text
    assert "delayed until 2030" in text


async def test_a_key_that_is_held_for_ever_is_named_with_its_reason() -> None:
    is_open = False

    @stage(rate=Rate(10, by=lambda number: "host"))
    async def throttled(number: int) -> None:
        if not is_open:
            raise RetryLater("HTTP 429", after="1h", hold="host")

    async with harness(Pipeline("p", throttled)) as h:
        await h.feed(throttled, 7, 8)
        with pytest.raises(NotDrained) as caught:
            await h.drain(within="90m")
        text = str(caught.value)
        assert ("queued", "host") in {(each.state, each.key) for each in h.waiting()}
        is_open = True
    assert "throttled: 8, attempt 1," in text
    assert "queued for host, held for another" in text
    assert "HTTP 429" in text


async def test_a_pause_is_named_and_once_it_is_lifted_the_rest_is_handled() -> None:
    assert "keep: 7, attempt 1," in (text := await stuck(keep, is_paused=True))
    assert "the pipeline is paused" in text


async def test_what_is_left_at_the_end_of_a_test_is_drained_or_named() -> None:
    @stage
    async def endless(number: int) -> None:
        await asyncio.Event().wait()

    async def forgets_to_drain(work: Accepts[int]) -> None:
        async with harness(Pipeline("p", work)) as h:  # type: ignore[arg-type]
            await h.feed(work, 7)

    await forgets_to_drain(keep)
    with pytest.raises(NotDrained, match="endless: 7"):
        await forgets_to_drain(endless)


async def test_a_worker_that_ends_is_named() -> None:
    @stage
    async def cancels_all(number: int) -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    async def cancels() -> None:
        async with harness(Pipeline("p", cancels_all)) as h:
            await h.feed(cancels_all, 1)
            await h.drain()

    with pytest.raises(WorkerEnded, match="was cancelled by code in this process"):
        await cancels()


async def test_a_message_that_goes_in_circles_for_ever_is_named() -> None:
    @stage
    async def there(number: int) -> int:
        return number

    @stage
    async def back(number: int) -> int:
        return number

    with pytest.raises(NotDrained, match=r"a message has led to another through 1,\d{3} stages.*\n  (there|back): 7"):
        async with harness(Pipeline("circle", there >> back >> there)) as h:
            await h.feed(there, 7)


async def test_messages_that_become_more_and_more_are_named() -> None:
    @stage(concurrency=1)
    async def split(number: int) -> list[int]:
        await asyncio.sleep(1)  # so that each is settled by itself
        return [number] * 10

    with pytest.raises(NotDrained, match=r"it goes on after 400 calls to Redis\n(.*\n)+  and [\d,]+ more") as caught:
        await drained(Pipeline("growing", split >> split), split, limit=20)

    assert "split: 7, attempt 1" in str(caught.value)


async def drained(pipeline: Pipeline, work: Accepts[int], *, limit: int) -> None:
    async with harness(pipeline) as h:
        await h.feed(work, 7)
        await h.drain(limit)
