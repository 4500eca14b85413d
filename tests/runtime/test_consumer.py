"""What a stage does with its messages: every way to write a handler, and every way in which it may fail."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import pytest
from pydantic import BaseModel, computed_field, field_validator

import flowq
from flowq import Context, Pipeline, Reject, Retry, RetryLater, stage
from tests.runtime.lab import Item, Lab, Other

NO_WAIT = Retry(attempts=3, base=0, max=0)
ONCE = Retry(attempts=1)


def items(n: int) -> list[Item]:
    return [Item(n=i) for i in range(n)]


# How a handler gives its outputs


@stage
async def coroutine_one(item: Item) -> Item:
    return Item(n=item.n + 100)


@stage
async def coroutine_optional(item: Item) -> Item | None:
    return Item(n=item.n + 100) if item.n % 2 else None


@stage
async def coroutine_list(item: Item) -> list[Item]:
    return [Item(n=item.n)] * item.n


@stage
async def async_generator(item: Item) -> AsyncIterator[Item]:
    for _ in range(item.n):
        yield item


@stage
def thread_one(item: Item) -> Item:
    return Item(n=item.n + 100)


@stage
def thread_optional(item: Item) -> Item | None:
    return Item(n=item.n + 100) if item.n % 2 else None


@stage
def thread_list(item: Item) -> list[Item]:
    return [item] * item.n


@stage
def thread_generator(item: Item) -> Iterator[Item]:
    for _ in range(item.n):
        yield item


@stage(inline=True)
def inline_one(item: Item) -> Item:
    return Item(n=item.n + 100)


@stage(inline=True)
def inline_generator(item: Item) -> Iterator[Item]:
    yield from [item] * item.n


ONE = [100, 101, 102, 103]
ODD = [101, 103]
MANY = [1, 2, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("handler", "expected", "filtered"),
    [
        (coroutine_one, ONE, 0),
        (coroutine_optional, ODD, 2),
        (coroutine_list, MANY, 1),
        (async_generator, MANY, 1),
        (thread_one, ONE, 0),
        (thread_optional, ODD, 2),
        (thread_list, MANY, 1),
        (thread_generator, MANY, 1),
        (inline_one, ONE, 0),
        (inline_generator, MANY, 1),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_every_shape_of_handler_hands_on_what_it_gives(
    handler: Any, expected: list[int], filtered: int, any_lab: Lab
) -> None:
    got: list[int] = []

    @stage
    async def sink(item: Item) -> None:
        got.append(item.n)

    summary = await any_lab.run(Pipeline("p", handler >> sink), *items(4))

    assert sorted(got) == expected
    balance = summary.stages[handler.name]
    assert (balance.entered, balance.ok, balance.filtered, balance.out) == (4, 4 - filtered, filtered, len(expected))


async def test_a_function_runs_on_a_thread_and_does_not_block_its_neighbours(lab: Lab) -> None:
    loop_thread, threads = threading.get_ident(), set[int]()
    blocked, free = threading.Event(), threading.Event()

    @stage
    def blocking(item: Item) -> Item:
        threads.add(threading.get_ident())
        blocked.set()
        assert free.wait(5)
        return item

    @stage
    async def quick(item: Item) -> None:
        if item.n == 7:
            assert await asyncio.to_thread(blocked.wait, 5)
            free.set()

    pipeline = Pipeline("p", blocking >> quick)
    await lab.push(pipeline, quick, Item(n=7))
    await lab.run(pipeline, Item(n=1))

    assert loop_thread not in threads


async def test_an_inline_function_runs_on_the_loop(lab: Lab) -> None:
    threads: set[int] = set()

    @stage(inline=True)
    def inline(item: Item) -> None:
        threads.add(threading.get_ident())

    await lab.run(Pipeline("p", inline), *items(5))

    assert threads == {threading.get_ident()}


async def test_concurrency_is_reached_and_never_exceeded(lab: Lab) -> None:
    running, most = 0, 0
    three_together = asyncio.Barrier(3)

    @stage(concurrency=3)
    async def together(item: Item) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await three_together.wait()
        running -= 1

    await lab.run(Pipeline("p", together), *items(12))

    assert most == 3


async def test_a_thread_stage_has_as_many_threads_as_slots(lab: Lab) -> None:
    together = threading.Barrier(3, timeout=5)

    @stage(concurrency=3)
    def three(item: Item) -> None:
        together.wait()

    await lab.run(Pipeline("p", three), *items(9))


# Where outputs go


class Base(BaseModel):
    n: int


class Derived(Base):
    extra: str = ""


async def test_outputs_are_routed_by_type_and_a_subclass_goes_with_its_base(lab: Lab) -> None:
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

    assert got == {"Base 1": 3, "Base 2": 3, "t": 3}


async def test_a_fan_out_gives_a_copy_to_each(lab: Lab) -> None:
    got: Counter[str] = Counter()

    @stage
    async def left(item: Item) -> None:
        got["left"] += item.n

    @stage
    async def right(item: Item) -> None:
        got["right"] += item.n

    summary = await lab.run(Pipeline("p", coroutine_one >> (left, right)), *items(4))

    assert got == {"left": sum(ONE), "right": sum(ONE)}
    assert summary.stages["coroutine_one"].out == 8


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
    got: list[int] = []

    @stage
    async def also(item: Item) -> Item:
        return Item(n=item.n + 1000)

    @stage
    async def sink(item: Item) -> None:
        got.append(item.n)

    pipeline = Pipeline("p", (coroutine_one, also) >> sink)
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


# Failing


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


async def test_the_backoff_between_attempts_grows_as_declared(lab: Lab) -> None:
    at: list[float] = []

    @stage(retry=Retry(attempts=4, base=0.05, jitter=False))
    async def broken(item: Item) -> None:
        at.append(asyncio.get_running_loop().time())
        raise ConnectionError

    await lab.run(Pipeline("p", broken), Item())

    waited = [later - earlier for earlier, later in pairwise(at)]
    for wait, least in zip(waited, [0.05, 0.1, 0.2], strict=True):
        assert least <= wait < least + 0.15


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


async def test_a_message_that_asks_for_later_is_run_then_and_the_attempt_counts(lab: Lab) -> None:
    at: list[float] = []

    @stage(retry=Retry(attempts=3))
    async def throttled(item: Item) -> None:
        at.append(asyncio.get_running_loop().time())
        raise RetryLater("busy", after=0.1)

    pipeline = Pipeline("p", throttled)
    await lab.run(pipeline, Item())

    assert len(at) == 3
    assert all(0.1 <= later - earlier < 0.3 for earlier, later in pairwise(at))
    assert (await lab.letter(pipeline, throttled)).error == "RetryLater: busy"


async def test_a_hold_does_not_count_as_an_attempt(lab: Lab) -> None:
    attempts: list[int] = []

    @stage(retry=Retry(attempts=2), rate=flowq.Rate(1000, by="n"))
    async def throttled(item: Item, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) < 5:
            raise RetryLater("busy", after=0.01, hold="n")

    summary = await lab.run(Pipeline("p", throttled), Item())

    assert attempts == [1] * 5
    assert summary.stages["throttled"].ok == 1


@pytest.mark.parametrize("after", [math.inf, math.nan, -1.0])
async def test_no_delay_that_a_handler_asks_for_stops_the_stage(after: float, lab: Lab) -> None:
    @stage(retry=Retry(attempts=2, base=0, max=0))
    async def odd(item: Item) -> None:
        if item.n == 0:
            raise RetryLater(after=after)

    summary = await lab.run(Pipeline("p", odd), *items(3))

    assert (summary.stages["odd"].ok, summary.dead) == (2, 1)


async def test_a_handler_that_takes_too_long_is_stopped_and_tried_again(lab: Lab) -> None:
    attempts: list[int] = []

    @stage(timeout=0.05, retry=Retry(attempts=2, base=0, max=0))
    async def slow(item: Item, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        await asyncio.sleep(10)

    pipeline = Pipeline("p", slow)
    await lab.run(pipeline, Item())

    assert attempts == [1, 2]
    assert (await lab.letter(pipeline, slow)).error == "HandlerTimeout: ran longer than 0.05 s"


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
            free.wait(5)

    pipeline = Pipeline("p", slow)
    try:
        await lab.run(pipeline, *items(4))
    finally:
        free.set()

    assert runs == {0: 1, 1: 1, 2: 1, 3: 1}
    assert [letter.message for letter in await lab.letters(pipeline, slow)] == [{"n": 0}]


class Unpleasant(BaseException):
    """Nobody's Exception."""


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


# Messages that do not fit


async def test_bytes_that_are_no_message_die_as_they_are_without_a_try(lab: Lab) -> None:
    handled: list[int] = []

    @stage(retry=NO_WAIT)
    async def strict(item: Item) -> None:
        handled.append(item.n)

    pipeline = Pipeline("p", strict)
    stream = lab.broker(pipeline).keys.edge(">strict")
    bodies = [b"\xff\xfe", b"", b"null", b"{", b'{"n":"x"}', b"[" * 100_000, b'{"n":' + b"9" * 5000 + b"}"]
    for body in bodies:
        await lab.command(b"XADD", stream, b"*", b"b", body)

    summary = await lab.run(pipeline, Item(n=1))

    assert handled == [1]
    assert summary.stages["strict"].retries == 0
    letters = await lab.letters(pipeline, strict)
    assert [letter.body for letter in letters] == bodies
    assert {letter.reason for letter in letters} == {"undecodable"}


class Trapped(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def look_up(cls, n: int) -> int:
        return {1: 1, 2: 2}[n]


async def test_a_validator_that_raises_what_pydantic_lets_pass_costs_only_its_own_message(lab: Lab) -> None:
    handled: list[int] = []

    @stage
    async def trapped(message: Trapped) -> None:
        handled.append(message.n)

    pipeline = Pipeline("p", trapped)
    stream = lab.broker(pipeline).keys.edge(">trapped")
    for n in (1, 3, 2):
        await lab.command(b"XADD", stream, b"*", b"b", b'{"n":%d}' % n)

    await lab.run(pipeline)

    assert sorted(handled) == [1, 2]
    assert (await lab.letter(pipeline, trapped)).reason == "undecodable"


class Booby(BaseModel):
    n: int

    @computed_field
    @property
    def reciprocal(self) -> float:
        return 1 / self.n


async def test_an_output_whose_own_code_fails_costs_only_its_own_message(lab: Lab) -> None:
    got: list[int] = []

    @stage
    async def give(item: Item) -> Booby:
        return Booby(n=item.n)

    @stage
    async def take(booby: Booby) -> None:
        got.append(booby.n)

    pipeline = Pipeline("p", give >> take)
    await lab.run(pipeline, *items(3))

    assert sorted(got) == [1, 2]
    assert (await lab.letter(pipeline, give)).reason == "unencodable"


async def test_an_output_that_does_not_fit_its_annotation_dies_with_its_input_and_sends_nothing(lab: Lab) -> None:
    got: list[int] = []

    @stage(retry=NO_WAIT)
    async def lying(item: Item) -> list[Item]:
        return [item, Other(text="not what was promised")] if item.n == 0 else [item]  # type: ignore[list-item]

    @stage
    async def sink(item: Item) -> None:
        got.append(item.n)

    pipeline = Pipeline("p", lying >> sink)
    await lab.run(pipeline, *items(3))

    assert sorted(got) == [1, 2]
    letter = await lab.letter(pipeline, lying)
    assert (letter.reason, letter.attempts) == ("unencodable", 1)
    assert "returned a Other, but declares Item" in letter.error


async def test_an_output_that_is_too_large_for_its_stage_dies_with_its_input(lab: Lab) -> None:
    @stage
    async def grow(item: Item) -> Other:
        return Other(text="x" * (100 * item.n))

    got: list[int] = []

    @stage(max_bytes=250)
    async def small(other: Other) -> None:
        got.append(len(other.text))

    pipeline = Pipeline("p", grow >> small)
    await lab.run(pipeline, *items(4))

    assert sorted(got) == [0, 100, 200]
    assert "at most 250" in (await lab.letter(pipeline, grow)).error


async def test_text_that_is_no_unicode_dies_with_its_input(lab: Lab) -> None:
    @stage
    async def odd(item: Item) -> Other:
        return Other.model_construct(text="\ud800")

    @stage
    async def sink(other: Other) -> None: ...

    pipeline = Pipeline("p", odd >> sink)
    await lab.run(pipeline, Item())

    assert (await lab.letter(pipeline, odd)).reason == "unencodable"


async def test_a_generator_that_fails_after_some_outputs_sends_none_of_them(lab: Lab) -> None:
    got: list[int] = []

    @stage(retry=ONCE)
    async def generate(item: Item) -> AsyncIterator[Item]:
        yield Item(n=1)
        yield Item(n=2)
        raise ConnectionError

    @stage
    async def sink(item: Item) -> None:
        got.append(item.n)

    await lab.run(Pipeline("p", generate >> sink), Item())

    assert got == []


@stage(retry=NO_WAIT)
async def endless(item: Item) -> AsyncIterator[Item]:
    while True:
        yield item


@stage(retry=NO_WAIT)
def endless_on_a_thread(item: Item) -> Iterator[Item]:
    while True:
        yield item


@pytest.mark.parametrize("handler", [endless, endless_on_a_thread], ids=lambda handler: handler.name)
async def test_a_message_that_gives_more_than_one_step_can_carry_dies(handler: Any, lab: Lab) -> None:
    @stage
    async def sink(item: Item) -> None: ...

    pipeline = Pipeline("p", handler >> sink)
    await lab.run(pipeline, Item())

    letter = await lab.letter(pipeline, handler)
    assert (letter.reason, letter.attempts) == ("unencodable", 1)
    assert "100,000" in letter.error


async def test_outputs_that_are_too_large_together_die_with_their_input(lab: Lab) -> None:
    @stage
    async def large(item: Item) -> AsyncIterator[Other]:
        other = Other(text="x" * 900_000)
        for _ in range(100):
            yield other

    @stage
    async def sink(other: Other) -> None: ...

    pipeline = Pipeline("p", large >> sink)
    await lab.run(pipeline, Item())

    assert "64,000,000 bytes" in (await lab.letter(pipeline, large)).error


async def test_twenty_thousand_outputs_of_one_message_arrive(lab: Lab) -> None:
    got = 0

    @stage
    async def burst(item: Item) -> AsyncIterator[Item]:
        for n in range(20_000):
            yield Item(n=n)

    @stage(batch=1000)
    async def sink(batch: list[Item]) -> None:
        nonlocal got
        got += len(batch)

    await lab.run(Pipeline("p", burst >> sink), Item())

    assert got == 20_000


# Emitting


async def test_what_is_emitted_leaves_with_the_outputs_and_after_its_delay(lab: Lab) -> None:
    at: dict[str, float] = {}
    now = asyncio.get_running_loop().time

    @stage
    async def later(other: Other) -> None:
        at[other.text] = now()

    @stage
    async def emitting(item: Item, ctx: Context) -> None:
        at["handled"] = now()
        await ctx.emit(later, Other(text="at once"))
        await ctx.emit(later, Other(text="delayed"), delay=0.2)

    await lab.run(Pipeline("p", emitting, later), Item())

    assert at["at once"] - at["handled"] < 0.2
    assert 0.2 <= at["delayed"] - at["handled"] < 0.6


async def test_a_handler_that_fails_emits_nothing(lab: Lab) -> None:
    got: list[int] = []

    @stage
    async def sink(item: Item) -> None:
        got.append(item.n)

    @stage(retry=ONCE)
    async def emitting(item: Item, ctx: Context) -> None:
        await ctx.emit(sink, item)
        raise ConnectionError

    await lab.run(Pipeline("p", emitting, sink), Item())

    assert got == []


@stage
async def stranger(item: Item) -> None: ...


@flowq.source
def some_source() -> Iterator[Item]:
    yield Item()


@pytest.mark.parametrize("target", [stranger, some_source], ids=["another pipeline's", "a source"])
async def test_emitting_where_nothing_can_go_costs_only_its_own_message(target: Any, lab: Lab) -> None:
    @stage(retry=ONCE)
    async def emitting(item: Item, ctx: Context) -> None:
        if item.n == 0:
            await ctx.emit(target, item)

    @stage
    async def sink(item: Item) -> None: ...

    flows = (emitting, some_source >> sink) if target is some_source else (emitting,)
    pipeline = Pipeline("p", *flows)
    await lab.push(pipeline, emitting, *items(3))
    summary = await lab.run(pipeline)

    assert (summary.stages["emitting"].ok, summary.stages["emitting"].dead) == (2, 1)


# Back-pressure


@flowq.source
def from_outside() -> Iterator[Item]:
    yield from items(400)


@stage(concurrency=4)
async def after_the_handler(item: Item) -> Item:
    return item


@stage(concurrency=4, ack="first")
async def before_the_handler(item: Item) -> Item:
    return item


@pytest.mark.parametrize(
    "producer", [from_outside, after_the_handler, before_the_handler], ids=lambda producer: producer.name
)
async def test_a_slow_sink_stops_its_producer_near_the_size_of_their_edge(producer: Any, lab: Lab) -> None:
    lengths: list[int] = []

    @stage(concurrency=4, maxsize=100)
    async def slow(item: Item) -> None:
        await asyncio.sleep(0.01)

    pipeline = Pipeline("p", producer >> slow)
    broker, edge = lab.broker(pipeline), f"{producer.name}>slow"

    async def watch() -> None:
        while True:
            lengths.append((await broker.outstanding([edge]))[edge])
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    summary = await lab.run(pipeline, *([] if producer is from_outside else items(400)))
    watching.cancel()

    assert summary.stages["slow"].ok == 400
    assert 80 < max(lengths) <= 2 * 100 + 4


async def test_a_feedback_edge_is_never_too_full_to_go_on(lab: Lab) -> None:
    handled: list[int] = []

    @stage(dedup="n", maxsize=5, concurrency=2)
    async def crawl(item: Item) -> list[Item]:
        handled.append(item.n)
        return [Item(n=child) for child in (2 * item.n, 2 * item.n + 1) if child < 300]

    await lab.run(Pipeline("p", crawl >> crawl), Item(n=1))

    assert sorted(handled) == list(range(1, 300))
