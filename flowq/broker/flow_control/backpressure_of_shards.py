"""Back-pressure of a pipeline with several shards: from edges in this shard, in others, and from what is in transit."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Sequence

from flowq.broker.edges import Edges
from flowq.broker.flow_control.backpressure import Backpressure
from flowq.broker.redis_streams import Broker
from flowq.delivery.edge import address, parse_address
from flowq.errors import BrokerUnavailable
from flowq.graph.compilation.plan import EdgePlan


class BackpressureOfShards(Backpressure):
    """What follows may be full in any shard. `edges` have the limits of one shard.

    Of other shards, each call that applies something there says how full they are. `is_clogged` tells whether a shard
    takes nothing, so that what is for it piles up in the outboxes: then nothing more may be sent, whatever has room.
    """

    def __init__(self, broker: Broker, edges: Sequence[EdgePlan], is_clogged: Callable[[], bool]) -> None:
        super().__init__(broker, edges)
        self._is_clogged = is_clogged
        others = [shard for shard in range(len(broker.shards)) if shard != broker.shard]
        self._limits |= {address(shard, edge): limit for edge, limit in list(self._limits.items()) for shard in others}

    @property
    def are_full(self) -> bool:
        return super().are_full or self._is_clogged()

    @property
    def need_a_look(self) -> bool:
        """As in `Backpressure`."""
        return super().need_a_look or self._is_clogged()

    async def count(self) -> None:
        """As in `Backpressure`; of other shards only where they are full. One that does not answer remains so."""
        by_shard: defaultdict[int | None, list[str]] = defaultdict(list)
        for text in self._limits:
            shard, edge = parse_address(text)
            if shard is None or text in self._full:
                by_shard[shard].append(edge)
        for shard, edges in by_shard.items():
            broker = self._broker if shard is None else self._broker.shards[shard]
            with contextlib.suppress(BrokerUnavailable):
                found = await Edges(broker).outstanding(edges)
                self.note({edge if shard is None else address(shard, edge): n for edge, n in found.items()})
