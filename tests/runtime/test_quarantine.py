"""The quarantine of a run that serves only some of the stages."""

from __future__ import annotations

import asyncio

from flowq.broker.connection import UrlDialer
from flowq.broker.keys import Keys
from flowq.runtime.run import RunOptions
from flowq.runtime.runner import Runner
from tests.conformance.worker import PLAN, Worker


async def quarantined(victim: Worker, *stages: str) -> dict[str, str]:
    """Run a quarantine to its end; who is then still certified."""
    runner = Runner(PLAN, victim.broker, RunOptions(stages=stages), supervised=True, quarantined=True)
    await runner.start()
    await asyncio.wait_for(runner.ended, 5)
    await runner.stop()
    return await victim.broker.certificates()


async def test_what_a_crashed_worker_left_to_other_stages_is_not_forgotten(url: str, unique_namespace: str) -> None:
    victim = await Worker.sign_on(UrlDialer(url), Keys(unique_namespace, "lab"), "victim")
    await victim.given_one()
    await victim.broker.certify_dead("victim", "crash: died of SIGSEGV")

    assert "victim" in await quarantined(victim, "store")
    assert await quarantined(victim, "parse") == {}
    await victim.close()
