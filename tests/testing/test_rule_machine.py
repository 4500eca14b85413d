"""A state machine of hypothesis tries to break a pipeline: a sound one passes, and a planted bug is found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from flowq import Context, Pipeline, Rate, Reject, Retry, resource, source, stage, use
from flowq.errors import NotFound, UsageError
from flowq.testing import Crash, Failover, Ledger, NotAsExpected, NotDrained, PipelineMachine, machine

# The same examples in every run: whether a bug is found must not depend on luck.
FEW = settings(max_examples=6, stateful_step_count=8, derandomize=True, database=None)
UNSHRUNK = settings(FEW, max_examples=200, phases=[Phase.generate])


@dataclass
class Order:
    number: int
    lines: list[str]


@resource
def bank() -> Ledger:
    raise AssertionError("not in a test")


@stage(retry=Retry(attempts=3))
async def split(order: Order, ctx: Context) -> list[str]:
    if order.number % 5 == 0:
        raise Reject("a multiple of five")
    if order.number % 3 == 0 and ctx.attempt < 3:
        raise ConnectionError
    return order.lines


@stage(rate=Rate(100, per="1s"))
async def measure(line: str) -> int | None:
    return len(line) or None


@stage(batch=3)
def add(numbers: list[int]) -> None: ...


SOUND = Pipeline("orders", split >> measure >> add)


def run(made: type[PipelineMachine], how: settings = FEW) -> None:
    run_state_machine_as_test(made, settings=how)


def test_a_sound_pipeline_passes() -> None:
    run(machine(SOUND))


def test_a_bug_of_a_handler_that_runs_twice_is_found_with_the_fault_that_shows_it() -> None:
    @stage
    async def pay(number: int, ctx: Context, bank: Ledger = use(bank)) -> None:
        bank.note(ctx.message_id, number)

    made: Any = machine(Pipeline("pay", pay), resources=lambda: {bank: Ledger()}, faults=[Crash])

    class Paying(made):  # type: ignore[misc]
        @invariant()
        def nothing_is_paid_twice(self) -> None:
            self.h.resource(bank).check()

    with pytest.raises(NotAsExpected, match="doubled") as raised:
        run(Paying, UNSHRUNK)
    assert "state.fault(fault=Crash('pay', " in "\n".join(raised.value.__notes__)


def test_a_pipeline_that_cannot_be_drained_is_found() -> None:
    @stage
    async def hang(number: int) -> None:
        if number > 100:
            await asyncio.Event().wait()

    with pytest.raises(NotDrained, match=r"hang: .* its handler has not returned"):
        run(machine(Pipeline("hang", hang), faults=()), UNSHRUNK)


def test_the_error_of_a_rule_is_reported_and_not_what_it_leaves_behind() -> None:
    @stage
    async def hang(number: int) -> None:
        await asyncio.Event().wait()

    made: Any = machine(Pipeline("hang", hang), faults=())

    class Failing(made):  # type: ignore[misc]
        @invariant()
        def nothing_is_fed(self) -> None:
            if self.fed:
                raise LookupError

    with pytest.raises(LookupError):
        run(Failing, UNSHRUNK)


def test_each_example_has_resources_of_its_own() -> None:
    given: list[Ledger] = []

    def fakes() -> dict[Any, Any]:
        given.append(Ledger())
        return {bank: given[-1]}

    @stage
    async def pay(number: int, bank: Ledger = use(bank)) -> None: ...

    run(machine(Pipeline("pay", pay), resources=fakes))
    assert len(given) == len({id(each) for each in given}) > 1


def test_the_stages_behind_sources_and_those_without_a_stage_before_them_are_fed() -> None:
    @source
    def numbers() -> Iterator[int]:
        yield 1

    @stage
    async def first(number: int) -> str:
        return str(number)

    @stage
    async def second(text: str) -> None: ...

    @stage
    async def other(text: str) -> None: ...

    fed: set[str] = set()
    made: Any = machine(Pipeline("fed", numbers >> first >> second, other), faults=())

    class Noting(made):  # type: ignore[misc]
        def teardown(self) -> None:
            fed.update(name for name, _ in self.fed)
            super().teardown()

    run(Noting, settings(FEW, max_examples=20))
    assert fed == {"first", "other"}


def test_a_cycle_without_a_beginning_is_fed_everywhere_or_where_the_test_says() -> None:
    @stage(bounded=True)
    async def ping(number: int) -> str | None:
        return "x" * (number - 1) if 1 < number < 5 else None

    @stage(bounded=True)
    async def pong(text: str) -> int:
        return len(text)

    pipeline = Pipeline("cycle", ping >> pong >> ping)
    run(machine(pipeline, fields={}))
    with pytest.raises(NotFound):
        machine(pipeline, feed=["pang"])
    run(machine(pipeline, feed=[pong]))


def test_fields_of_messages_may_be_given() -> None:
    seen: list[int] = []

    @stage
    async def note(order: Order) -> None:
        seen.append(order.number)

    run(machine(Pipeline("note", note), fields={"note": {"number": st.just(7)}}))
    assert set(seen) == {7}


def test_a_failover_is_left_to_explore() -> None:
    with pytest.raises(UsageError, match="no Failover"):
        machine(SOUND, faults=[Failover])


def test_a_rule_of_a_test_may_run_a_coroutine() -> None:
    made: Any = machine(SOUND, faults=())

    class Hurried(made):  # type: ignore[misc]
        @rule(hours=st.integers(1, 3))
        def wait(self, hours: int) -> None:
            before = self.h.now
            self.run(self.h.advance(hours=hours))
            assert (self.h.now - before).total_seconds() == 3600 * hours

    run(Hurried)
