"""The inlet of a stage of a pipeline with several shards: each message is appended where it lives."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from flowq.broker.claims import ClaimCheck
from flowq.broker.publishing import Parcel
from flowq.broker.records import Published
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.publishing_out import PublishingOut
from flowq.delivery.edge import parse_address
from flowq.delivery.placement import shard_of_id
from flowq.delivery.policy import DedupMemory
from flowq.delivery.settlement import Output
from flowq.errors import PayloadTooLarge
from flowq.graph.compilation.placing import NOWHERE, Placing
from flowq.graph.compilation.plan import EdgePlan
from flowq.pushing.entrance import Entrance, PushCall, total


class ShardedEntrance:
    """An inlet in all shards.

    A call that may be made again with the same id goes through one shard, that of the id: what belongs to others leaves
    from there, in the same step. Any other call is made in each shard for the messages that live there.
    """

    def __init__(
        self,
        edge: EdgePlan,
        memory: DedupMemory | None,
        broker: Broker,
        placing: Placing,
        claims: ClaimCheck | None,
    ) -> None:
        self.edge = edge
        self._placing = placing
        self._shards = [_EntranceOfShard(edge, memory, each, PublishingOut(each), claims) for each in broker.shards]

    @property
    def most_bytes(self) -> int:
        """The size of what one call may add."""
        return self._shards[0].most_bytes

    async def publish(self, call: PushCall) -> Published:
        """As in `Entrance`: all or nothing in each shard, and all or nothing for a call that has an id."""
        return await (self._through_one(call) if call.known_by else self._to_each(call))

    async def _through_one(self, call: PushCall) -> Published:
        here = shard_of_id(call.known_by.encode(), len(self._shards))
        outputs = [self._placing.placed(output, here, enters=True) for output in call.outputs]
        elsewhere = {shard for output in outputs if (shard := parse_address(output.edge).shard) is not None}
        for shard in sorted(elsewhere):
            await self._shards[shard].until_room(call)
        return await self._shards[here].publish(replace(call, outputs=outputs))

    async def _to_each(self, call: PushCall) -> Published:
        by_shard: defaultdict[int, list[Output]] = defaultdict(list)
        for output in call.outputs:
            placed = self._placing.placed(output, NOWHERE, enters=True)
            shard, edge = parse_address(placed.edge)
            by_shard[shard or 0].append(placed._replace(edge=edge))
        calls = [
            self._shards[shard].publish(replace(call, outputs=outputs)) for shard, outputs in sorted(by_shard.items())
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            raise _for_all(errors, len(call.outputs))
        return total([result for result in results if isinstance(result, Published)])


def _for_all(errors: Sequence[BaseException], n_messages: int) -> BaseException:
    """The error of a call of which some shards may have stored their part."""
    others = [error for error in errors if not isinstance(error, PayloadTooLarge)]
    if others:
        return others[0]
    error = errors[0]
    assert isinstance(error, PayloadTooLarge)
    error.stored = n_messages  # all are, except those that are too large: see `Entrance`
    return error


class _EntranceOfShard(Entrance):
    """An inlet in one shard, from which messages may leave for others."""

    async def _send(self, call: PushCall) -> Published:
        by_edge: defaultdict[str, list[Output]] = defaultdict(list)
        for output in call.outputs:
            by_edge[output.edge].append(output)
        parcels = [Parcel(edge, outputs, (), self._memory, self.edge.maxsize) for edge, outputs in by_edge.items()]
        return await self._publishing.publish_together(
            parcels, token=call.token, call_id=call.id, delay_ms=call.delay_ms
        )
