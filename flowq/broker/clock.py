"""Corrects what Redis keeps by its clock after that clock has been set back."""

from __future__ import annotations

from flowq.broker import scripts
from flowq.broker.redis_streams import Broker
from flowq.broker.tempo import record_keys
from flowq.graph.plan import Plan

LARGEST_STEP_LET_PASS_MS = 5000


async def follow_clock(broker: Broker, plan: Plan) -> float:
    """By how many seconds the clock of Redis has been set back since the last call of anybody, 0 if it has not.

    Everything delayed, held, remembered, leased or given a turn is then as far away again as it was. Without this it
    would stay where it is for as long as the clock takes to get there once more.
    """
    keys, bound_ms = broker.keys, LARGEST_STEP_LET_PASS_MS
    if not await broker.script(scripts.FOLLOW_CLOCK, [keys.clock], bound_ms, 0, 0, 0, 0):
        return 0.0
    stages = [stage.name for stage in plan.consumers]
    edges = [edge.name for edge in plan.edges]
    consumers = await broker.consumers_of(edges)
    workers = sorted(set(await broker.registered_workers()).union(*consumers.values()))
    scores = [*map(keys.delayed, edges), *map(keys.held, stages), *map(keys.seen_until, stages), keys.published]
    values = [*map(keys.rate, stages), *map(keys.starts, stages)]
    queues = [*map(keys.queue, stages)]
    leases = [*map(keys.lease, workers)]
    names = [keys.clock, *scores, *values, *queues, *leases, *record_keys(keys)]
    counts = len(scores), len(values), len(queues), len(leases)
    step_ms: int = await broker.script(scripts.FOLLOW_CLOCK, names, bound_ms, *counts)
    return step_ms / 1000
