"""Looks at what a dead worker has left, without taking it over."""

from __future__ import annotations

from flowq.broker.keys import GROUP
from flowq.broker.records import deliveries_of
from flowq.broker.redis_streams import Broker
from flowq.delivery.message import Delivery
from flowq.delivery.stored import as_stored


async def first_left_by(victim: str, edge: str, broker: Broker, worker: str) -> Delivery | None:
    """What `worker` would be given first if it reclaimed now. None: nothing, or nothing that is still there."""
    stream = broker.keys.edge(edge)
    [pending] = await broker.ask([(b"XPENDING", stream, GROUP, b"-", b"+", 1, as_stored(victim))])
    if isinstance(pending, Exception) or not pending:
        return None
    entry_id = pending[0][0]
    [entries] = await broker.ask([(b"XRANGE", stream, entry_id, entry_id)])
    if isinstance(entries, Exception) or not entries:
        return None
    return deliveries_of(edge, entries, worker, broker.epoch)[0]
