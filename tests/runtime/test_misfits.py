"""Messages and outputs that do not fit (too large, wrong type, not decodable or encodable) die alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import BaseModel, field_serializer, field_validator

from flowq import Pipeline, Retry, stage
from tests.runtime.lab import Item, Lab, Other, items
from tests.runtime.record import collecting

NO_WAIT = Retry(attempts=3, base=0, max=0)
ONCE = Retry(attempts=1)


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

    @field_serializer("n")
    def divided(self, n: int) -> int:
        return n * n // n


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
    sink, got = collecting()

    @stage(retry=NO_WAIT)
    async def lying(item: Item) -> list[Item]:
        return [item, Other(text="not what was promised")] if item.n == 0 else [item]  # type: ignore[list-item]

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
    sink, got = collecting()

    @stage(retry=ONCE)
    async def generate(item: Item) -> AsyncIterator[Item]:
        yield Item(n=1)
        yield Item(n=2)
        raise ConnectionError

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
