"""The quarantine of a run that serves only some of the stages."""

from __future__ import annotations

import asyncio
import time

from flowq import Pipeline, Rate, stage
from flowq.broker.client.connection import UrlDialer
from flowq.broker.flow_control.limiter import Limiter
from flowq.broker.keys import GROUP, Keys
from flowq.broker.workers import Workers
from flowq.graph.compilation.plan import Plan
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import RunOptions
from tests.conformance.worker import IN, PLAN, Item, Worker


async def quarantined(victim: Worker, *stages: str, plan: Plan = PLAN) -> dict[str, str]:
    """Run a quarantine to its end; who is still recorded as dead."""
    runner = Runner(plan, victim.broker, RunOptions(stages=stages), supervised=True, quarantined=True)
    await runner.start()
    await asyncio.wait_for(runner.ended, 60)
    await runner.stop()
    return await Workers(victim.broker).death_records()


async def test_what_a_crashed_worker_left_to_other_stages_is_not_forgotten(url: str, unique_namespace: str) -> None:
    victim = await Worker.sign_on(UrlDialer(url), Keys(unique_namespace, "lab"), "victim")
    await victim.given_one()
    await Workers(victim.broker).record_death("victim", "crash: died of SIGSEGV")

    assert "victim" in await quarantined(victim, "store")
    assert await quarantined(victim, "parse") == {}
    await victim.close()


async def test_the_rate_of_a_stage_and_its_holds_count_in_quarantine_as_well(url: str, unique_namespace: str) -> None:
    rate, began = Rate(1, per=0.2, concurrency=1), list[float]()

    @stage(rate=rate)
    async def parse(item: Item) -> None:
        began.append(time.monotonic())

    victim = await Worker.sign_on(UrlDialer(url), Keys(unique_namespace, "lab"), "victim")
    await victim.publish(*[b'{"n":%d}' % n for n in range(3)])
    assert len(await victim.read()) == 3
    await Workers(victim.broker).record_death("victim", "crash: died of SIGSEGV")
    asked_at = time.monotonic()
    await Limiter(victim.broker, "parse", [IN], rate).hold("", 0.3, "HTTP 429")

    assert await quarantined(victim, plan=Pipeline("lab", parse).plan) == {}

    assert len(began) == 3
    # A start may be later than its turn, which makes the next gap look short, but it is never earlier.
    assert all(at >= asked_at + 0.3 + 0.2 * n for n, at in enumerate(began))
    [slots, held] = await victim.broker.ask(
        [(b"ZCARD", victim.broker.keys.slots("parse")), (b"ZCARD", victim.broker.keys.held_until("parse"))]
    )
    assert (slots, held) == (0, 0)
    await victim.close()


async def test_a_suspect_that_waits_for_its_turn_is_not_taken_over_yet_so_that_no_death_is_its_fault(
    url: str, unique_namespace: str
) -> None:
    rate, began_at, hold_seconds = Rate(100, concurrency=1), list[float](), 1.0

    @stage(rate=rate)
    async def parse(item: Item) -> None:
        began_at.append(time.monotonic())

    victim = await Worker.sign_on(UrlDialer(url), Keys(unique_namespace, "lab"), "victim")
    await victim.given_one()
    await Workers(victim.broker).record_death("victim", "crash: died of SIGKILL")
    held_until = time.monotonic() + hold_seconds  # or a moment later
    await Limiter(victim.broker, "parse", [IN], rate).hold("", hold_seconds, "HTTP 429")

    run = asyncio.create_task(quarantined(victim, plan=Pipeline("lab", parse).plan))
    taken_over_at = 0.0
    while not taken_over_at:
        [pending] = await victim.broker.ask([(b"XPENDING", victim.broker.keys.edge(IN), GROUP, b"-", b"+", 1)])
        if not pending or pending[0][1] != b"victim":
            taken_over_at = time.monotonic()

    assert await run == {}
    assert taken_over_at >= held_until
    assert len(began_at) == 1
    await victim.close()
