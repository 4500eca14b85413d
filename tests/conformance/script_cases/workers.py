"""Cases of the scripts that know who is alive, and take over from the dead."""

from __future__ import annotations

from flowq.broker import scripts
from flowq.broker.clock import Clock
from flowq.broker.workers import Workers
from flowq.dead_letters.stored_letters import StoredLetters
from flowq.delivery.settlement import DeadLetter
from tests.conformance.script_cases.case import Lab, calls
from tests.conformance.worker import EDGES, IN, PLAN


@calls(scripts.REGISTER)
async def _(lab: Lab) -> None:
    await Workers(lab.worker.broker).register("third", {}, lease_ms=60_000, heartbeat="1")


@calls(scripts.RETIRE)
async def _(lab: Lab) -> None:
    await lab.leave()
    await Workers(lab.other.broker).retire(lab.other.name, EDGES)


@calls(scripts.RECORD_DEATH)
async def _(lab: Lab) -> None:
    await Workers(lab.worker.broker).record_death(lab.other.name, "killed")


@calls(scripts.FORGET_WORKERS)
async def _(lab: Lab) -> None:
    await Workers(lab.worker.broker).record_death(lab.other.name, "killed")
    await lab.redis(b"HSET", lab.keys.suspects, b"entry", 1)
    await Workers(lab.worker.broker).forget([lab.other.name])


@calls(scripts.RECLAIM)
async def _(lab: Lab) -> None:
    await lab.leave()
    taken = await Workers(lab.worker.broker).reclaim(IN, lab.other.name, lab.worker.name, limit=2, crashed="killed")
    assert taken is not None
    assert len(taken.deliveries) == 2


@calls(scripts.FOLLOW_CLOCK)
async def _(lab: Lab) -> None:
    in_an_hour = 1000 * int((await lab.redis(b"TIME"))[0]) + 3_600_000
    await lab.redis(b"HSET", lab.keys.clock, b"latest_ms", in_an_hour)
    await lab.redis(b"ZADD", lab.keys.delayed(IN), in_an_hour + 60_000, b"m")
    assert 3590 < await Clock(lab.worker.broker).follow(PLAN) <= 3600


@calls(scripts.CLAIM_SOURCE)
async def _(lab: Lab) -> None:
    await Workers(lab.worker.broker).take_source("source", lab.worker.name)


@calls(scripts.ADD_DEAD_LETTER)
async def _(lab: Lab) -> None:
    delivery = await lab.worker.given_one()
    await StoredLetters(lab.worker.broker, "parse").bury(delivery, DeadLetter("failed", None, delivery.header))
