"""Runs what crashed workers were at, one message at a time, so that the next crash names its cause."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Sequence

from flowq.broker.calls import insist
from flowq.broker.redis_streams import Broker
from flowq.broker.settling import Settled, Settling
from flowq.delivery.message import Delivery
from flowq.delivery.settlement import Ack, Outcome, Output, decide
from flowq.graph.emission import deduplicating_edges
from flowq.graph.plan import Plan, StagePlan
from flowq.runtime.batching import Outcomes, handle_batch
from flowq.runtime.certificates import crashed
from flowq.runtime.handling import Handling
from flowq.runtime.identity import Identity
from flowq.runtime.process_pool import ProcessHandling


class Quarantine:
    """The suspects of all stages of a process.

    A worker that crashes leaves behind what it was running and what it had read ahead: nearly all of it healthy. Here
    each is run alone. If this process dies as well, the one message that was under way is to blame.
    """

    def __init__(
        self,
        broker: Broker,
        identity: Identity,
        plan: Plan,
    ) -> None:
        self._broker = broker
        self._identity = identity
        self._handlings: dict[str, Handling | ProcessHandling] = {}
        self._settling = Settling(broker, deduplicating_edges(plan))

    def add(self, handling: Handling | ProcessHandling) -> None:
        """Have the suspects of one more stage run."""
        self._handlings[handling.stage.name] = handling

    async def run(self) -> None:
        """Run suspects until there are none."""
        while await insist(self._next_round, what="quarantine"):
            pass
        await self._settling.close()

    async def _next_round(self) -> bool:
        """Go once over all crashed workers; whether anything was found."""
        found = False
        certified = crashed(await self._broker.certificates())
        stages = [handling.stage for handling in self._handlings.values()]
        consumers = await self._broker.consumers_of([edge for stage in stages for edge in stage.in_edges])
        for stage in stages:
            for edge in stage.in_edges:
                for victim in consumers[edge] & set(certified):
                    found = await self._take_from(stage, edge, victim, certified[victim]) or found
        left_nothing = set(certified).difference(*consumers.values())
        if not found:
            await self._broker.forget(sorted(left_nothing))
        return found

    async def _take_from(self, stage: StagePlan, edge: str, victim: str, how: str) -> bool:
        found = False
        reclaim = self._broker.reclaim
        while taken := await reclaim(edge, victim, self._identity.worker, limit=1, crashed=how):
            found = True
            for delivery in taken.deliveries:
                await self._run_alone(stage, delivery)
                await self._broker.clear_suspicion(delivery)
            if taken.finished:
                break
        return found

    async def _run_alone(self, stage: StagePlan, delivery: Delivery) -> None:
        handling = self._handlings[stage.name]
        outcomes: Outcomes
        if stage.batch is not None and isinstance(handling, Handling):
            outcomes = await handle_batch(handling, [delivery], _uninterrupted)
        else:
            outcomes = [((delivery,), await handling.handle(delivery))]
        settled: list[Settled] = [
            (deliveries, decide(outcome, deliveries[0], stage.retry, random.random()))
            for deliveries, outcome in outcomes
        ]
        await self._settle(stage.name, delivery, settled)

    async def commit(self, stage: str, delivery: Delivery, outputs: Sequence[Output]) -> None:
        """Settle a delivery while its handler is still running."""
        await self._settle(stage, delivery, [((delivery,), Ack(outputs, filtered=False))])

    async def _settle(self, stage: str, delivery: Delivery, settled: Sequence[Settled]) -> None:
        await self._settling.settle(stage, delivery.edge, settled, worker=self._identity.worker)


async def _uninterrupted(handling: Awaitable[Outcome]) -> Outcome:
    return await handling
