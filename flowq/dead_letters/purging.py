"""Removes messages that nobody works on yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from flowq.broker import scripts
from flowq.broker.keys import GROUP
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs
from flowq.graph.compilation.plan import EdgePlan

_PER_CALL = 1000  # a script keeps Redis from everything else


async def idle_messages(broker: Broker, edges: Sequence[EdgePlan], *, running: bool = False) -> Mapping[str, int]:
    """How many messages wait or are delayed, by stage; or how many run."""
    states = (await Runs(broker).snapshot([edge.name for edge in edges], ())).edges
    counts: Counter[str] = Counter()
    for edge in edges:
        state = states[edge.name]
        counts[edge.target] += state.running if running else state.waiting + state.delayed
    return counts


async def purge(broker: Broker, edges: Sequence[EdgePlan], at_most: Mapping[str, int]) -> Mapping[str, int]:
    """Remove what waits and is delayed on some edges, `at_most` so many of each stage; returns how many, by stage.

    Each call of a thousand is one atomic step that counts what it removes as purged: the balance adds up at any time,
    and broken off, the rest is still there. Without a limit, a pipeline that goes on filling would never be done.
    """
    removed: Counter[str] = Counter()
    keys = broker.keys
    for edge in edges:
        names = [keys.stats, *keys.of_edge(edge.name)]
        while left := min(_PER_CALL, at_most.get(edge.target, 0) - removed[edge.target]):
            n: int = await broker.script(scripts.PURGE, names, GROUP, edge.target, edge.name, left)
            removed[edge.target] += n
            if n < left:
                break
    return removed
