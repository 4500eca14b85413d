"""Whatever goes wrong, nothing is lost or doubled; and what is lost, doubled or left behind is noticed.

`FLOWQ_SEEDS=100` tries each fault with so many seeds.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Literal, get_args

import pytest

from flowq import Context, Dedup, Pipeline, Rate, Retry, RetryLater, stage
from flowq.broker.keys import GROUP
from flowq.testing import (
    Crash,
    Disconnect,
    Duplicate,
    Failover,
    InvariantBroken,
    LostReply,
    PoisonBody,
    Refuse,
    Reorder,
    Restart,
    Slow,
    Stall,
    harness,
)
from flowq.testing.faults import Fault, Point, RefusedWith
from flowq.testing.scenario import Scenario
from flowq.testing.simulated_pipeline import SimulatedPipeline
from flowq.testing.simulation.settle_calls import Settlement
from tests.testing.doubled_numbers import NUMBERS, double, keep

SEEDS = range(int(os.environ.get("FLOWQ_SEEDS", "1")))
INPUTS = [*range(16), 3, 4]


@stage(dedup=Dedup(by=lambda number: number), concurrency=4)
async def enter(number: int) -> int:
    return number


@stage(retry=Retry(attempts=4, base="1s", max="1m"))
def check(number: int, ctx: Context) -> Iterator[int]:
    if number % 3 == 0 and ctx.attempt < 3:
        raise OSError("not yet")
    if number % 5 == 1 and ctx.attempt < 2:
        raise RetryLater("later", after="90s")
    yield number


@stage(batch=5, linger="100ms")
async def together(numbers: list[int]) -> list[int]:
    return [10 * number for number in numbers]


@stage(rate=Rate(20, by=lambda number: number % 2, concurrency=1))
async def store(number: int) -> None: ...


PIPELINE = Pipeline("p", enter >> check >> together >> store)
STAGES = (enter, check, together, store)

POINTS: tuple[Point, ...] = ("read", "handler", "settle")
FAULTS: list[Fault] = [
    *(Crash(each, before=point, nth=2) for each in STAGES for point in POINTS),
    *(Crash(each, after=point) for each in STAGES for point in POINTS),
    *(LostReply(call, nth=nth) for call in ("settle", "read", "promote", "reserve") for nth in (1, 2)),
    *(Duplicate(call, nth=nth) for call in ("settle", "promote", "renew", "reserve") for nth in (1, 2)),
    *(Disconnect(nth=nth) for nth in (1, 4)),
    *(Reorder(nth=nth) for nth in (1, 4)),
    *(Restart(nth=nth) for nth in (1, 4)),
    *(Stall(seconds, nth=2) for seconds in (1, 20, 100)),
    *(Refuse(error, seconds=5, nth=2) for error in get_args(RefusedWith) if error != "OOM"),
    *(Slow(each, 100) for each in STAGES),
]  # fmt: skip


async def drained(faults: list[Fault], seed: int) -> None:
    async with harness(PIPELINE, workers=2, seed=seed, faults=faults, lease="3s") as h:
        await h.feed(enter, *INPUTS)
        await h.drain()
        h.expect(store).any_order([10 * number for number in range(16)])
        assert h.dead() == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_one_fault_loses_and_doubles_nothing(fault: Fault, seed: int) -> None:
    await drained([fault], seed)


@pytest.mark.parametrize("seed", SEEDS)
async def test_two_crashes_and_a_restart_lose_and_double_nothing(seed: int) -> None:
    await drained([Crash(check, after="read"), Restart(nth=4), Crash(store, before="settle", nth=2)], seed)


@pytest.mark.parametrize("seed", range(5))
async def test_a_worker_that_dies_when_everything_is_settled_leaves_nothing_behind(seed: int) -> None:
    """Its successor starts while the others still take it for alive."""
    async with harness(Pipeline("p", store), workers=2, seed=seed, faults=[Crash(store, after="settle")]) as h:
        await h.feed(store, 1)
        await h.drain()


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_poisoned_body_is_one_dead_letter(seed: int) -> None:
    async with harness(PIPELINE, workers=2, seed=seed, faults=[PoisonBody(check, nth=3)]) as h:
        await h.feed(enter, *INPUTS)
        await h.drain()

        (dead,) = h.dead()
        assert dead.reason == "undecodable"
        assert len(h.outputs(store)) == 15


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", [LostReply(), Duplicate(), Stall(20), PoisonBody("early"), Disconnect()], ids=str)
@pytest.mark.parametrize("ack", ["first", "manual"])
async def test_what_is_settled_early_counts_once(ack: Literal["first", "manual"], fault: Fault, seed: int) -> None:
    @stage(ack=ack)
    async def early(number: int, ctx: Context) -> None:
        if ack == "manual":
            await ctx.ack()
        if number == 2:
            raise ValueError("too late for another attempt")

    async with harness(Pipeline("early", early), workers=2, seed=seed, faults=[fault]) as h:
        await h.feed(early, 1, 2, 3)
        await h.drain()

        counted = h.balance()["early"]
        assert counted.ok + counted.dead == 3
        assert counted.dead == len(h.dead()) > 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("forget", [1, 3, 10])
async def test_after_a_failover_the_balance_adds_up_and_nothing_is_left_behind(forget: int, seed: int) -> None:
    async with harness(PIPELINE, workers=2, seed=seed, faults=[Failover(forget, nth=5)]) as h:
        await h.feed(enter, *INPUTS)
        await h.drain()

        assert h.balance()
        assert h.unfired == ()


# What is wrong is noticed


@asynccontextmanager
async def stopped() -> AsyncGenerator[SimulatedPipeline]:
    """A pipeline that has handled 1 and 2, and whose workers have stopped. Nothing is wrong with it yet."""
    scenario = Scenario(NUMBERS.plan, 0, (), 1, 15.0, None, "virtual", None)
    simulated = SimulatedPipeline(scenario)
    try:
        await simulated.start()
        await simulated.push("double", [1, 2], key=None, delay=0)
        await simulated.drain(1000, None)
        await simulated.stop()
        simulated.check()
        yield simulated
    finally:
        await simulated.close()


@pytest.mark.parametrize(
    ("commands", "found"),
    [
        ([("HINCRBY", "stats", "in:>double", 1)], "the balance of double does not add up"),
        ([("HINCRBY", "stats", "ok:keep", -1), ("HINCRBY", "stats", "in:double>keep", -1)],
         "keep: 2 messages were settled, Redis has counted 1"),
        ([("HINCRBY", "stats", "out:double", -1)], "double: its handler has returned 2 messages, Redis has received 1"),
        ([("HSET", "workers", "ghost", "{}")], "worker ghost is still registered"),
        ([("HSET", "workers", "ghost", "{}"), ("SET", "lease:ghost", 1)], "the lease of ghost is left"),
        ([("XGROUP CREATECONSUMER", "edge:>keep", "ghost")], ">keep: consumer ghost is left"),
        ([("HSET", "parked:>keep", "m", "x")], ">keep: 1 bodies are left"),
        ([("HSET", "certificates", "ghost", "x")], "a record of the death of ghost is left"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_what_is_lost_miscounted_or_left_behind_is_named(
    commands: list[tuple[str, str, str | int]], found: str
) -> None:
    async with stopped() as simulated:
        server, keys = simulated.around.servers[0].connect(), simulated.around.keys
        prefix = keys.stats.removesuffix("stats")
        for command, key, *words in commands:
            names = [name.encode() for name in command.split()]
            group = [GROUP] * (command == "XGROUP CREATECONSUMER")
            server.exchange([(*names, f"{prefix}{key}", *group, *words)])

        with pytest.raises(InvariantBroken, match=re.escape(found)):
            simulated.check()


async def test_a_message_that_was_settled_twice_is_named() -> None:
    async with stopped() as simulated:
        _, edge, entry = simulated.journal.finished[0]
        simulated.journal.settled("w1", Settlement("double", edge, [entry], []))

        with pytest.raises(InvariantBroken, match=f"message .* on {edge} was settled 2 times"):
            simulated.check()


async def test_a_message_that_is_pushed_again_with_a_key_that_was_forgotten_is_another_one() -> None:
    async with harness(NUMBERS) as h:
        for _ in range(3):
            await h.feed(double, 1, key="order 1")
            await h.feed(double, 1, key="order 1")
            await h.drain()
            await h.advance(minutes=61)

        h.expect(keep).exactly([2, 2, 2])
