"""Changes that tests of settling make to a stream behind the back of a worker, and reads."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.broker.keys import Keys
from flowq.broker.workers import Workers
from flowq.delivery.message import Delivery
from tests.conformance.conftest import Command
from tests.conformance.worker import IN, Worker


async def reclaim(taker: Worker, victim: Worker, keys: Keys, redis: Command, *, limit: int = 100) -> Sequence[Delivery]:
    """The lease of the victim has run out, and the taker claims what it had."""
    await redis(b"DEL", keys.lease(victim.name))
    taken = await Workers(taker.broker).reclaim(IN, victim.name, taker.name, limit=limit, heartbeat=None)
    assert taken is not None
    return taken.deliveries


async def bodies(redis: Command, stream: str) -> list[bytes]:
    return [fields[fields.index(b"b") + 1] for _, fields in await redis(b"XRANGE", stream, b"-", b"+")]
