"""A lane of a pipeline with several shards: it also forwards what its stages send to other shards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from flowq.broker.redis_streams import Broker
from flowq.broker.shards.forwarding import Forwarder
from flowq.broker.shards.node_links import NodeLinks
from flowq.graph.compilation.plan import StagePlan
from flowq.runtime.identity import Identity
from flowq.runtime.lanes.gates import Gates
from flowq.runtime.lanes.lane import Lane, Workplace
from flowq.runtime.stage.consumer import Consumer
from flowq.runtime.stage.passing_on import consumer_class
from flowq.runtime.stage.sharded_writing import ShardedWriting

_LONGEST_FLUSH_SECONDS = 1.0


class ShardLane(Lane):
    """The stages of a process in one of several shards. All lanes of a process share its `gates` and its `links`.

    `for_sources`: what its sources publish with, if this is their shard.
    """

    def __init__(
        self,
        place: Workplace,
        broker: Broker,
        gates: Gates,
        links: NodeLinks,
        for_sources: ShardedWriting | None = None,
    ) -> None:
        self._gates = gates
        self._for_sources = for_sources
        self.forwarder = forwarder = Forwarder(broker, links=links, on_outstanding=self._note_outstanding)
        self._of_stages = ShardedWriting(place.plan, broker, forwarder.note, is_clogged=lambda: forwarder.is_clogged)
        super().__init__(place, broker, Identity(world=broker.world), self._of_stages)

    def _note_outstanding(self, outstanding: Mapping[str, int]) -> None:
        self._of_stages.note(outstanding)
        if self._for_sources is not None:
            self._for_sources.note(outstanding)

    def _new_consumer(self, stage: StagePlan) -> Consumer:
        plan, broker = self._place.plan, self.broker
        return consumer_class(stage, plan, broker)(
            stage, plan, broker, self.identity, self._of_stages,
            delayed=self._promoter.delayed, gate=self._gates.of(stage),
        )  # fmt: skip

    async def start(self) -> None:
        """As in `Lane`. What an earlier worker has left in the outboxes goes on its way first."""
        self.forward()
        await super().start()

    def forward(self) -> None:
        """Forward what is in the outboxes, from now on."""
        self._tasks.spawn(self.forwarder.run(), f"forwarder of shard {self.broker.shard}")

    async def stop_stages(self, hurry: asyncio.Event) -> None:
        """As in `Lane`. What its stages have sent has a moment to arrive, so that a drained run leaves no outboxes."""
        await super().stop_stages(hurry)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_FLUSH_SECONDS):
                await self.forwarder.flush_until_certain()

    async def end_jobs(self) -> None:
        """As in `Lane`. What is still in the outboxes is found by the next worker of the shard."""
        await super().end_jobs()
        await self.forwarder.close()
