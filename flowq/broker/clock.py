"""Corrects the times stored in Redis after its clock has been set back."""

from __future__ import annotations

from flowq.broker import scripts
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers
from flowq.delivery.stored import as_stored
from flowq.graph.compilation.plan import Plan

LARGEST_STEP_LET_PASS_MS = 5000


class Clock:
    """The clock of Redis, which all times of a pipeline go by."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def follow(self, plan: Plan) -> float:
        """Return by how many seconds the clock of Redis has been set back since the last call of any worker, else 0.

        Moves delays, holds, deduplication, leases and rates back with the clock. Otherwise all of them would last
        longer by the size of the step.
        """
        broker, keys, bound_ms = self._broker, self._broker.keys, LARGEST_STEP_LET_PASS_MS
        if not await broker.script(scripts.FOLLOW_CLOCK, [keys.clock], bound_ms, 0, 0, 0, 0, 0):
            return 0.0
        stages = [stage.name for stage in plan.consumers]
        edges = [edge.name for edge in plan.edges]
        consumers = await Workers(broker).consumers_of(edges)
        workers = sorted(set(await Workers(broker).registered()).union(*consumers.values()))
        scores = [
            *map(keys.delayed, edges),
            *map(keys.held_until, stages),
            *map(keys.seen_until, stages),
            *map(keys.unpacked_until, stages),
            keys.published,
        ]
        values = [*map(keys.rate, stages), *map(keys.starts, stages)]
        queues = [*map(keys.queue, stages)]
        leases = [as_stored(keys.lease(worker)) for worker in workers]
        seen = [*map(keys.seen_until, stages)]
        names = [keys.clock, *scores, *values, *queues, *leases, *seen, *keys.throughput()]
        counts = len(scores), len(values), len(queues), len(leases), len(seen)
        step_ms: int = await broker.script(scripts.FOLLOW_CLOCK, names, bound_ms, *counts)
        return step_ms / 1000
