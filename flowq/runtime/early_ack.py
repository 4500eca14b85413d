"""Stages that settle before their handler has finished: ack="first" and ack="manual"."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from flowq.broker.calls import insist
from flowq.broker.redis_streams import Broker
from flowq.delivery.message import Delivery
from flowq.delivery.policy import AckMode
from flowq.delivery.settlement import Ack, DeadLetter, Output, Succeeded, decide
from flowq.graph.plan import StagePlan
from flowq.runtime.handling import Handling
from flowq.runtime.process_pool import ProcessHandling
from flowq.runtime.settler import Settler


class EarlyAck:
    """Handles deliveries of one stage whose settlement does not wait for the handler.

    Once a delivery is settled its outputs can no longer ride on the settlement: they are published. A failure after
    that becomes a dead letter, never a retry.
    """

    handling: Handling | ProcessHandling

    def __init__(self, broker: Broker, stage: StagePlan, settler: Settler) -> None:
        self._broker = broker
        self._stage = stage
        self._settler = settler
        self._settled: set[bytes] = set()

    async def handle(self, delivery: Delivery) -> None:
        """Handle one delivery and see it settled."""
        if self._stage.ack is AckMode.FIRST:
            await self.commit(delivery, ())
        outcome = await self.handling.handle(delivery)
        if delivery.entry_id not in self._settled:
            settlement = decide(outcome, delivery, self._stage.retry, random.random())
            self._settler.add(delivery.edge, ((delivery,), settlement))
            return
        self._settled.discard(delivery.entry_id)
        if isinstance(outcome, Succeeded):
            await self._publish(outcome.outputs, delivery)
            return
        settlement = decide(outcome, delivery, self._stage.retry, random.random())
        letter = settlement if isinstance(settlement, DeadLetter) else DeadLetter(
            "failed after it was acknowledged", getattr(outcome, "error", None), delivery.header
        )  # fmt: skip
        stage, bury = self._stage.name, self._broker.bury
        await insist(lambda: bury(stage, delivery, letter), what=f"adding a dead letter of {stage}")

    async def commit(self, delivery: Delivery, outputs: Sequence[Output]) -> None:
        """Settle a delivery now, with these outputs."""
        await self._settler.settle_now(delivery.edge, ((delivery,), Ack(outputs, filtered=False)))
        self._settled.add(delivery.entry_id)

    async def _publish(self, outputs: Sequence[Output], delivery: Delivery) -> None:
        by_edge: defaultdict[str, list[Output]] = defaultdict(list)
        for output in outputs:
            by_edge[output.edge].append(output)
        for edge, messages in by_edge.items():
            publish = partial(self._broker.publish, edge, messages, token=f"{delivery.message_id}>{edge}")
            await insist(publish, what=f"publishing for {self._stage.name}")
