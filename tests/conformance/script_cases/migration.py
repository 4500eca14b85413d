"""Cases of the scripts that carry out what a new version of a pipeline changes."""

from __future__ import annotations

from flowq.broker import scripts
from flowq.broker.migration.moving import Moving
from flowq.broker.migration.recorded_plan import Orphan, RecordedPlan, recorded_edge
from flowq.broker.publishing import Publishing
from flowq.broker.runs import Runs
from flowq.dead_letters.stored_letters import StoredLetters
from flowq.delivery.policy import DedupMemory
from tests.conformance.script_cases.case import NEW, Lab, calls
from tests.conformance.worker import IN, OUT, PLAN, STAGES, output


@calls(scripts.RECORD_PLAN)
async def _(lab: Lab) -> None:
    await RecordedPlan(lab.worker.broker).record(PLAN)


@calls(scripts.DROP_EDGE)
async def _(lab: Lab) -> None:
    await RecordedPlan(lab.worker.broker).record(PLAN)
    await lab.worker.publish(b"1")
    record = await lab.redis(b"HGET", lab.keys.plan, IN)
    assert await RecordedPlan(lab.worker.broker).drop(Orphan(IN, 1, recorded_edge(record)))


@calls(scripts.MOVE_EDGE)
async def _(lab: Lab) -> None:
    await lab.delayed()
    for worker in (lab.worker, lab.other):
        await lab.redis(b"DEL", lab.keys.lease(worker.name))
    assert await Moving(lab.worker.broker).edge(IN, NEW) == 6


@calls(scripts.MOVE_LETTERS)
async def _(lab: Lab) -> None:
    await StoredLetters(lab.worker.broker, "parse").edit([((await lab.letters())[0], b"edited")])
    await Moving(lab.worker.broker).stage("parse", "tidy", {IN: NEW})


@calls(scripts.RENAME_STAGE)
async def _(lab: Lab) -> None:
    await lab.redis(b"HSET", lab.keys.rate("parse"), b"a", 1)
    await lab.redis(b"HSET", lab.keys.rate("tidy"), b"b", 2)
    await lab.letters()
    await lab.delayed()
    await Moving(lab.worker.broker).stage("parse", "tidy", {IN: NEW})


@calls(scripts.MOVE_SEEN)
async def _(lab: Lab) -> None:
    for edge, values in ((IN, "ab"), (OUT, "bc")):
        messages = [output(edge, b"1", dedup=value) for value in values]
        await Publishing(lab.worker.broker).publish(edge, messages, dedup=DedupMemory(60_000))
    await Moving(lab.worker.broker).stage("parse", "store", {})


@calls(scripts.TAKE_OVER_SEEN)
async def _(lab: Lab) -> None:
    await lab.redis(b"SADD", lab.keys.seen("parse"), b"a" * 16)
    await Runs(lab.worker.broker).take_over_seen(STAGES)
