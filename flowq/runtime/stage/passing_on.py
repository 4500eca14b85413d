"""Reads a stage in shard 0, and passes on what was pushed there and lives in another shard."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from flowq.broker.redis_streams import Broker
from flowq.delivery.edge import inlet_of, is_crossing
from flowq.delivery.history import was_put_back
from flowq.delivery.message import GARBLED, MISSING, Arrival, Delivery, Row
from flowq.delivery.settlement import Output, Settled, Succeeded
from flowq.errors import DecodeError
from flowq.graph.compilation.placing import Placing
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.large_bodies.store import redeem
from flowq.runtime.identity import Identity
from flowq.runtime.stage.gated_consumer import GatedConsumer
from flowq.runtime.stage.settler import chunks
from flowq.runtime.stage.sharded_writing import ShardedWriting


class PassingConsumer(GatedConsumer):
    """A consumer of shard 0. Programs that know of no shards push there, as they did when it was the only one.

    What lives elsewhere is settled with itself as its only output, before its handler is called. It is not kept for a
    replay here, and its body stays in the claim store: it has not come to its end.

    A message that was put back to run again stays, even if it lives elsewhere since the number of shards changed: its
    value has been seen there, so that it would be dropped as a duplicate of itself.
    """

    def __init__(
        self, stage: StagePlan, plan: Plan, broker: Broker, identity: Identity, writing: ShardedWriting, **options: Any
    ) -> None:
        super().__init__(stage, plan, broker, identity, writing, **options)
        self._inlet = inlet_of(stage.name)
        self._claims = broker.claims
        self._here = broker.shard
        self._placing = Placing(plan)
        self._passing = writing.passing_on()

    async def take(self, rows: Sequence[Row]) -> None:
        """As in `Consumer`, for those that live here."""
        pushed = [row for row in rows if row[0].edge == self._inlet]
        gone = await self._pass_on(pushed) if pushed else set[bytes]()
        await super().take([row for row in rows if row[0].edge != self._inlet or row[1] not in gone])

    async def _pass_on(self, rows: Sequence[Row]) -> set[bytes]:
        """The entry ids of those that live elsewhere, once they are on their way."""
        by_arrival: defaultdict[Arrival, list[Settled]] = defaultdict(list)
        for row in rows:
            output = await self._output_of(Delivery(*row))
            if is_crossing(output.edge):
                by_arrival[row[0]].append(((row,), Succeeded((output,))))
        for arrival, settled in by_arrival.items():
            for chunk in chunks(settled):
                await self._passing.settle(self.stage.name, arrival, chunk.settled, worker=self._identity.worker)
        return {row[1] for settled in by_arrival.values() for (row,), _ in settled}

    async def _output_of(self, delivery: Delivery) -> Output:
        """A message that was pushed as an output for where it lives."""
        if delivery.header_bytes in (MISSING, GARBLED) or was_put_back(delivery.header):
            return Output(delivery.edge, b"", b"")
        try:
            edge, value = self._placing.place_of(await redeem(self._claims, delivery), self._here)
        except DecodeError:  # its body is lost, which its stage will find as well
            return Output(delivery.edge, b"", b"")
        words = delivery.header.encode().split(b" ")
        # The word that names its value is written anew, for hashes as they are where there are shards.
        header = b" ".join(word for word in words if not word.startswith(b"k="))
        return Output(edge, header, delivery.body, value)

    async def close(self) -> None:
        """As in `Consumer`."""
        await self._passing.close()
        await super().close()


def consumer_class(stage: StagePlan, plan: Plan, broker: Broker) -> type[GatedConsumer]:
    """The class of what reads a stage in one of several shards."""
    passes_on = broker.shard == 0 and Placing(plan).moves(inlet_of(stage.name))
    return PassingConsumer if passes_on else GatedConsumer
