"""A harness: what is fed comes out typed, and each call, output and dead letter is seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Literal

import anyio
import pytest
from pydantic import BaseModel

from flowq import BatchFailed, Context, Pipeline, Reject, Retry, resource, stage, use
from flowq.errors import UsageError
from flowq.testing import NotAsExpected, harness
from tests.testing.doubled_numbers import NUMBERS, double, keep


class Page(BaseModel):
    url: str
    links: int = 0


@dataclass
class Link:
    url: str


async def test_what_is_fed_comes_out_at_the_end_in_order() -> None:
    async with harness(NUMBERS) as h:
        await h.feed(double, 1, 2, 3)
        await h.drain()

        h.expect(double).exactly([2, 4, 6])
        h.expect("keep").exactly([2, 4, 6])
        assert h.balance()
        assert h.balance()["keep"].ok == 3
        assert h.waiting() == []


async def test_outputs_are_typed_and_new_objects_each_time() -> None:
    @stage
    async def parse(page: Page) -> AsyncIterator[Link]:
        link = Link("")
        for n in range(page.links):
            link.url = f"{page.url}/{n}"  # the same object again, changed
            yield link

    @stage
    async def follow(link: Link) -> None:
        link.url = "changed by its handler"

    async with harness(Pipeline("p", parse >> follow)) as h:
        await h.feed(parse, Page(url="a", links=2))
        await h.drain()

        h.expect(parse).exactly([Link("a/0"), Link("a/1")])
        h.outputs(follow)[0].url = "changed by the test"
        h.expect(follow).exactly([Link("a/0"), Link("a/1")])
        assert [call.message for call in h.calls(parse)] == [Page(url="a", links=2)]


async def test_a_value_for_several_stages_is_one_output() -> None:
    @stage
    async def again(number: int) -> None: ...

    async with harness(Pipeline("p", double >> [keep, again])) as h:
        await h.feed(double, 1)
        await h.drain()

        h.expect(double).exactly([2])
        h.expect(keep).exactly([2])
        h.expect(again).exactly([2])


async def test_what_the_last_stage_returns_is_its_output_although_no_stage_gets_it() -> None:
    async with harness(Pipeline("p", double)) as h:
        await h.feed(double, 1, 2)
        await h.drain()

        h.expect(double).exactly([2, 4])


async def test_what_is_emitted_through_the_context_is_an_output() -> None:
    @stage
    async def route(number: int, ctx: Context) -> None:
        ctx.emit(keep, number + 1)

    async with harness(Pipeline("p", route, keep)) as h:
        await h.feed(route, 1)
        await h.drain()

        h.expect(keep).exactly([2])


async def test_what_the_last_stage_returns_need_not_be_copied() -> None:
    lock = Lock()

    @stage
    async def last(number: int) -> Any:
        return lock

    async with harness(Pipeline("p", last)) as h:
        await h.feed(last, 1)
        await h.drain()

        assert h.outputs(last) == [lock]
        assert h.dead() == []


async def test_only_attempts_that_were_settled_have_outputs() -> None:
    @stage(retry=Retry(attempts=3))
    async def flaky(number: int, ctx: Context) -> AsyncIterator[str]:
        yield f"{number} in attempt {ctx.attempt}"
        if ctx.attempt < 3:
            raise OSError("not yet")

    async with harness(Pipeline("p", flaky)) as h:
        await h.feed(flaky, 7)
        await h.drain()

        h.expect(flaky).exactly(["7 in attempt 3"])
        assert [call.attempt for call in h.calls(flaky)] == [1, 2, 3]


async def test_a_batch_has_one_call_and_only_its_bad_message_fails() -> None:
    @stage(batch=3, linger="1s", retry=Retry(attempts=1))
    async def together(numbers: list[int]) -> list[int]:
        if 2 in numbers:
            raise BatchFailed({numbers.index(2): ValueError("two")}, outputs=[n for n in numbers if n != 2])
        return numbers

    async with harness(Pipeline("p", together)) as h:
        await h.feed(together, 1, 2, 3)
        await h.drain()

        (call,) = h.calls(together)
        assert call.message == [1, 2, 3]
        h.expect(together).exactly([1, 3])
        assert [dead.message for dead in h.dead(together)] == [2]


@pytest.mark.parametrize("ack", ["first", "manual"])
async def test_stages_that_settle_early_have_outputs_as_well(ack: Literal["first", "manual"]) -> None:
    @stage(ack=ack)
    async def early(number: int, ctx: Context) -> int:
        if ack == "manual":
            ctx.emit(keep, number)
            await ctx.ack()
        return 10 * number

    async with harness(Pipeline("p", early >> keep)) as h:
        await h.feed(early, 1)
        await h.drain()

        h.expect(early).exactly([1, 10] if ack == "manual" else [10])
        h.expect(keep).any_order([1, 10] if ack == "manual" else [10])


async def test_calls_name_attempt_worker_and_time() -> None:
    start = datetime(2031, 5, 6, 7, 8, tzinfo=UTC)
    async with harness(NUMBERS, start=start) as h:
        await h.feed(double, 5)
        await h.drain()

        (call,) = h.calls(double)
        assert (call.message, call.attempt, call.worker, call.stage) == (5, 1, "w1", "double")
        assert 0 < (call.at - start).total_seconds() < 1
        assert call.message_id


async def test_an_assertion_that_fails_in_a_handler_is_a_dead_letter_and_shown() -> None:
    @stage(retry=Retry(attempts=2))
    async def positive(number: int) -> int:
        assert number > 0, "not positive"
        return number

    async with harness(Pipeline("p", positive)) as h:
        await h.feed(positive, 1, -1)
        await h.drain()

        (dead,) = h.dead(positive)
        assert (dead.message, dead.reason, dead.attempts) == (-1, "attempts exhausted", 2)
        assert "not positive" in dead.error
        with pytest.raises(NotAsExpected, match=r"1 missing[^$]*missing: -1\n[^$]*AssertionError: not positive"):
            h.expect(positive).exactly([1, -1])


async def test_a_dead_letter_that_is_retried_counts_once() -> None:
    is_fixed = False

    @stage
    async def fragile(number: int) -> int:
        if not is_fixed:
            raise Reject("broken")
        return number

    async with harness(Pipeline("p", fragile)) as h:
        await h.feed(fragile, 3)
        await h.drain()
        assert [dead.reason for dead in h.dead()] == ["rejected"]

        is_fixed = True
        assert await h.retry_dead(fragile) == 1
        await h.drain()
        h.expect(fragile).exactly([3])


# Resources


@resource
def client() -> Iterator[str]:
    raise ConnectionError("no test may open it")
    yield "real"


@resource
def api(client: str = use(client)) -> Iterator[str]:
    yield f"api on {client}"


@stage
async def ask(number: int, client: str = use(client), api: str = use(api)) -> str:
    return f"{number} by {client} and {api}"


async def test_a_resource_is_replaced_also_where_another_one_requires_it() -> None:
    async with harness(Pipeline("p", ask), resources={client: "fake"}) as h:
        await h.feed(ask, 1)
        await h.drain()

        h.expect(ask).exactly(["1 by fake and api on fake"])
        assert h.resource(client) == "fake"


async def test_a_resource_that_the_pipeline_does_not_use_is_refused() -> None:
    with pytest.raises(UsageError, match='pipeline "numbers" does not use it'):
        harness(NUMBERS, resources={client: "fake"})


# Where it runs


async def feed_and_drain() -> list[int]:
    async with harness(NUMBERS) as h:
        await h.feed(double, 1, 2)
        await h.drain()
        return h.outputs(keep)


def test_a_program_may_use_it() -> None:
    assert asyncio.run(feed_and_drain()) == [2, 4]


def test_it_runs_under_anyio() -> None:
    assert anyio.run(feed_and_drain) == [2, 4]


async def test_tasks_of_the_test_may_each_have_their_own() -> None:
    assert [*await asyncio.gather(feed_and_drain(), feed_and_drain())] == [[2, 4], [2, 4]]


async def test_two_at_once_share_neither_clock_nor_data() -> None:
    async with harness(NUMBERS) as one, harness(NUMBERS) as other:
        await one.feed(double, 1)
        await one.advance(days=1)
        await other.feed(double, 5)
        await other.drain()

        one.expect(keep).exactly([2])
        other.expect(keep).exactly([10])
        assert (one.now - other.now).total_seconds() > 86_399


async def test_the_same_seed_repeats_every_call_and_another_one_does_not() -> None:
    async def trace(seed: int) -> str:
        async with harness(NUMBERS, seed=seed, workers=2) as h:
            await h.feed(double, *range(20))
            await h.drain()
            return str(h.trace)

    assert await trace(1) == await trace(1)
    assert await trace(1) != await trace(2)


async def test_a_step_is_one_decision() -> None:
    async with harness(NUMBERS) as h:
        await h.feed(double, 1)
        before = len(h.trace)
        event = await h.step()

        assert len(h.trace) == before + 1
        assert list(h.trace)[-1] == event
