"""Stages that settle before their handler has finished: ack="first" and ack="manual"."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from flowq.broker.calls import insist
from flowq.broker.outlets import Outlets
from flowq.broker.redis_streams import Broker
from flowq.broker.released import release
from flowq.broker.repairing import bury
from flowq.delivery.claim import is_claimed
from flowq.delivery.message import Delivery
from flowq.delivery.policy import AckMode
from flowq.delivery.settlement import Ack, DeadLetter, Interrupted, Outcome, Output, Succeeded, decide
from flowq.graph.plan import StagePlan
from flowq.runtime.settler import Settler


class EarlyAck:
    """Handles deliveries of one stage whose settlement does not wait for the handler.

    Once a delivery is settled its outputs can no longer ride on the settlement: they are published. A failure after
    that becomes a dead letter, never a retry. `deduplicating` names the edges whose stage deduplicates, `handle` runs
    the handler on a delivery.
    """

    def __init__(
        self,
        broker: Broker,
        stage: StagePlan,
        settler: Settler,
        handle: Callable[[Delivery], Awaitable[Outcome]],
        *,
        deduplicating: Mapping[str, int],
        outlets: Outlets,
    ) -> None:
        self._broker = broker
        self._stage = stage
        self._settler = settler
        self._deduplicating = deduplicating
        self._handle = handle
        self._outlets = outlets
        self._settled: set[tuple[str, bytes]] = set()  # two edges may give the same entry id

    async def handle(self, delivery: Delivery) -> None:
        """Handle one delivery and see it settled."""
        if self._stage.ack is AckMode.FIRST:
            await self.commit(delivery, ())
        outcome = await self._handle(delivery)
        entry = delivery.edge, delivery.entry_id
        if entry not in self._settled:
            settlement = decide(outcome, delivery, self._stage.retry, random.random())
            self._settler.add(delivery.edge, ((delivery,), settlement))
            return
        self._settled.discard(entry)
        if isinstance(outcome, Succeeded):
            await self._publish(outcome.outputs, delivery)
            if is_claimed(delivery.header_bytes) and self._stage.keep is None:
                await release(self._broker, [delivery.body])  # not before: a dead letter would have needed it
        else:
            letter = self._letter(outcome, delivery)
            await insist(
                partial(bury, self._broker, self._stage.name, delivery, letter),
                what=f"adding a dead letter of {self._stage.name}",
            )

    async def commit(self, delivery: Delivery, outputs: Sequence[Output]) -> None:
        """Settle a delivery now, with these outputs."""
        await self._settler.settle_now(delivery.edge, ((delivery,), Ack(outputs, filtered=False)))
        self._settled.add((delivery.edge, delivery.entry_id))

    def _letter(self, outcome: Outcome, delivery: Delivery) -> DeadLetter:
        settlement = decide(outcome, delivery, self._stage.retry, random.random())
        if isinstance(settlement, DeadLetter):
            return settlement
        happened = "stopped" if isinstance(outcome, Interrupted) else "failed"
        error = getattr(outcome, "error", None)
        return DeadLetter(f"{happened} after it was acknowledged", error, delivery.header)

    async def _publish(self, outputs: Sequence[Output], delivery: Delivery) -> None:
        if (claims := self._settler.claims) is not None:
            given = outputs
            outputs = await insist(lambda: claims.deposit(given), what=f"publishing for {self._stage.name}")
        together: defaultdict[tuple[str, int], list[Output]] = defaultdict(list)
        for output in outputs:
            together[output.edge, output.delay_ms].append(output)
        for (edge, delay_ms), messages in together.items():
            publish = partial(
                self._broker.publish,
                edge,
                messages,
                token=f"{delivery.edge}:{delivery.entry_id.decode()}>{edge}+{delay_ms}",
                deduplicated_by=edge.rpartition(">")[2] if edge in self._deduplicating else None,
                seen_ms=self._deduplicating.get(edge, 0),
                delay_ms=delay_ms,
                source=self._stage.name,
            )
            await insist(publish, what=f"publishing for {self._stage.name}")
        if together:
            self._outlets.sent(sum([len(output.body) for output in outputs]), handled=1)
            await self._outlets.count()  # no settlement tells how full they are
