"""Back-pressure of a pipeline with several shards: from edges in this shard, in others, and from what is in transit."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from flowq.broker.edges import Edges
from flowq.broker.flow_control.backpressure import LOOK_EVERY_SECONDS, Backpressure
from flowq.broker.redis_streams import Broker
from flowq.delivery.edge import address, parse_address
from flowq.errors import BrokerUnavailable
from flowq.graph.compilation.plan import EdgePlan

_FIRST_LOOK_SECONDS = 0.01


class BackpressureOfShards(Backpressure):
    """What follows may be full in any shard. `edges` have the limits of one shard.

    Of other shards, each call that applies something there says how many messages they hold. `leaving` are the edges
    whose messages may go there, `n_shares` into how many shards all that is sent is divided. `is_clogged` tells whether
    a shard takes nothing, so that what is for it piles up in the outboxes: then nothing more may be sent, whatever has
    room.
    """

    def __init__(
        self,
        broker: Broker,
        edges: Sequence[EdgePlan],
        is_clogged: Callable[[], bool],
        *,
        leaving: Collection[str] = (),
        n_shares: int = 1,
    ) -> None:
        super().__init__(broker, edges)
        self._is_clogged = is_clogged
        self._n_shares = n_shares
        self._pause_seconds = _FIRST_LOOK_SECONDS
        others = [shard for shard in range(len(broker.shards)) if shard != broker.shard]
        for limits in (self._limits, self._byte_limits):
            limits |= {address(k, edge): limits[edge] for edge in list(limits) if edge in leaving for k in others}

    @property
    def are_full(self) -> bool:
        return super().are_full or self._is_clogged()

    @property
    def need_a_look(self) -> bool:
        """As in `Backpressure`."""
        return super().need_a_look or self._is_clogged()

    def sent(self, n_bytes: int, *, handled: int) -> None:
        """As in `Backpressure`. What is divided evenly fills each shard by its share."""
        super().sent(n_bytes // self._n_shares, handled=handled)

    async def look_again(self) -> None:
        """As in `Backpressure`."""
        await super().look_again()
        if not self.are_full:
            self._pause_seconds = _FIRST_LOOK_SECONDS

    def _next_pause_seconds(self) -> float:
        """The share of a shard may be a handful of messages, done in no time while all shards wait for each other."""
        seconds, self._pause_seconds = self._pause_seconds, min(self._pause_seconds * 2, LOOK_EVERY_SECONDS)
        return seconds

    async def count(self) -> None:
        """As in `Backpressure`; of other shards only where they are full. One that does not answer remains so."""
        own_or_full = [text for text in self._limits if parse_address(text).shard is None or text in self._full]
        self.note(await self._ask(own_or_full, lambda broker, edges: Edges(broker).outstanding(edges)))

    async def _memory(self) -> Mapping[str, int]:
        found = await self._ask(list(self._byte_limits), lambda broker, edges: Edges(broker).memory(edges))
        if not found:
            raise BrokerUnavailable("no shard answers")
        return found

    async def _ask(
        self, addresses: Sequence[str], what: Callable[[Broker, Sequence[str]], Awaitable[Mapping[str, int]]]
    ) -> Mapping[str, int]:
        """What the shards say that answer, by address. All are asked at once: one that is silent delays no other."""
        by_shard: defaultdict[int | None, list[str]] = defaultdict(list)
        for text in addresses:
            shard, edge = parse_address(text)
            by_shard[shard].append(edge)
        asked = [
            what(self._broker if shard is None else self._broker.shards[shard], edges)
            for shard, edges in by_shard.items()
        ]
        found: dict[str, int] = {}
        for shard, reply in zip(by_shard, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if isinstance(reply, BaseException):
                if not isinstance(reply, BrokerUnavailable):
                    raise reply
            else:
                found |= {edge if shard is None else address(shard, edge): n for edge, n in reply.items()}
        return found
