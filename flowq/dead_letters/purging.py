"""Removes messages that are not running yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product

from flowq.broker import scripts
from flowq.broker.inspection.merging.channels import channels_reading
from flowq.broker.inspection.merging.snapshots import states_of_edges
from flowq.broker.keys import GROUP
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.every_shard import ask_every_shard
from flowq.broker.shards.waves import in_transit
from flowq.graph.compilation.plan import EdgePlan

_PER_CALL = 1000  # a script blocks Redis


class Purging:
    """The messages of one pipeline, to remove."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def idle(self, edges: Sequence[EdgePlan], *, running: bool = False) -> Mapping[str, int]:
        """How many messages wait or are delayed, by stage; or how many run."""
        states = await states_of_edges(self._broker, [edge.name for edge in edges])
        counts: Counter[str] = Counter()
        for edge in edges:
            state = states[edge.name]
            counts[edge.target] += state.running if running else state.waiting + state.delayed
        return counts

    async def purge(self, edges: Sequence[EdgePlan], at_most: Mapping[str, int]) -> Mapping[str, int]:
        """Remove waiting and delayed messages of some edges, `at_most` so many of each stage; returns how many.

        Each thousand is one atomic step that counts what it removes as purged: the balance adds up at any time, and
        after an interruption the rest is still there. Without a limit, purging an edge that is being filled would
        never end.
        """
        removed: Counter[str] = Counter()
        for shard, edge in product(self._broker.shards, edges):
            names = [shard.keys.stats, *shard.keys.of_edge(edge.name)]
            while left := min(_PER_CALL, at_most.get(edge.target, 0) - removed[edge.target]):
                n: int = await shard.script(scripts.PURGE, names, GROUP, edge.target, edge.name, left)
                removed[edge.target] += n
                if n < left:
                    break
        return removed

    async def in_transit(self) -> int:
        """How many messages are between shards, and arrive later."""
        if len(self._broker.shards) == 1:
            return 0
        found = await ask_every_shard(self._broker, lambda shard: shard.read(channels_reading(shard.keys)))
        return sum(in_transit(found.by_shard.values()).values())
