"""Pacing keys in tests: the turns of one stage, its deliveries, and how they end."""

from __future__ import annotations

from flowq.broker.flow_control.limiter import Finished, Limiter, Reservation, Verdict, slot_of
from flowq.delivery.message import Delivery
from flowq.delivery.policy import Rate, Retry
from flowq.delivery.settlement import Postponed, decide
from tests.conformance.worker import IN, Worker

FAST = 1_000_000.0  # a second: the rate is not what limits
SOON_SECONDS = 0.1
QUEUES = Reservation(must_queue=True)


def limiter(worker: Worker, rate: Rate) -> Limiter:
    return Limiter(worker.broker, "parse", [IN], rate)


async def given(worker: Worker, n: int) -> list[Delivery]:
    await worker.publish(*[b"%d" % i for i in range(n)])
    return await worker.read(n)


async def asked(limiter: Limiter, worker: Worker, *deliveries: Delivery, key: str = "a") -> list[Reservation]:
    return await limiter.reserve([(key, item) for item in deliveries], worker=worker.name, soon_seconds=SOON_SECONDS)


def done(
    worker: Worker, delivery: Delivery, verdict: Verdict = Verdict.SUCCEEDED, *, took: float = 0.0, key: str = "a"
) -> Finished:
    return Finished(key, worker.name, slot_of(delivery.edge, delivery.entry_id), took, verdict)


async def end(limiter: Limiter, *finished: Finished, sweep: bool = False) -> None:
    """Report what has finished, and wake what queues for its keys."""
    await limiter.dequeue(await limiter.finish(finished), sweep=sweep)


async def sent_to_queue(worker: Worker, delivery: Delivery, key: str = "a") -> None:
    await worker.settle(((delivery,), decide(Postponed(key=key), delivery, Retry(), 0.0)))
