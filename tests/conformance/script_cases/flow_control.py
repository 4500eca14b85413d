"""Cases of the scripts that slow a stage down."""

from __future__ import annotations

from flowq.broker import scripts
from flowq.broker.flow_control.limiter import Verdict
from flowq.broker.flow_control.pauses import Pauses
from flowq.broker.migration.moving import Moving
from flowq.delivery.policy import Rate
from tests.conformance.paced import asked, done, end, given, limiter, sent_to_queue
from tests.conformance.script_cases.case import Lab, calls
from tests.conformance.worker import IN


@calls(scripts.RESERVE)
async def _(lab: Lab) -> None:
    paced = limiter(lab.worker, Rate(10, concurrency=2))
    await paced.hold("held", 0.001, "")
    deliveries = await given(lab.worker, 5)
    await asked(paced, lab.worker, *deliveries)


@calls(scripts.HOLD)
async def _(lab: Lab) -> None:
    await limiter(lab.worker, Rate(10)).hold("a", 0.001, "HTTP 429")


@calls(scripts.FINISH)
async def _(lab: Lab) -> None:
    paced = limiter(lab.worker, Rate(10, adaptive=True, concurrency=2))
    first, second = await given(lab.worker, 2)
    await sent_to_queue(lab.worker, second)
    assert await paced.finish([done(lab.worker, first, Verdict.FAILED, took=0.1)]) == ["a"]


@calls(scripts.DEQUEUE)
async def _(lab: Lab) -> None:
    paced = limiter(lab.worker, Rate(10, adaptive=True, concurrency=2))
    first, *rest = await given(lab.worker, 6)
    for delivery in rest:
        await sent_to_queue(lab.worker, delivery)
    await end(paced, done(lab.worker, first, Verdict.FAILED, took=0.1), sweep=True)


@calls(scripts.EXPIRE_IDLE_KEYS)
async def _(lab: Lab) -> None:
    await lab.redis(b"HSET", lab.keys.rate("parse"), b"a", 1, b"b", 2)
    await limiter(lab.worker, Rate(10)).expire_idle_keys()


@calls(scripts.PAUSE)
async def _(lab: Lab) -> None:
    assert await Pauses(lab.worker.broker).pause(["parse"])


@calls(scripts.DEQUEUE_ALL)
async def _(lab: Lab) -> None:
    for delivery in await given(lab.worker, 2):
        await sent_to_queue(lab.worker, delivery)
    await Moving(lab.worker.broker).dequeue_all("parse", [IN])
