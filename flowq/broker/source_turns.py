"""Which worker runs a source, one at a time, and how far it has come."""

from __future__ import annotations

from flowq.broker import scripts
from flowq.broker.records import pairs
from flowq.broker.redis_streams import Broker
from flowq.delivery.stored import as_stored, name_in


async def take_source(broker: Broker, source: str, worker: str) -> str:
    """Have a worker run a source, unless it is being run; returns who runs it now.

    What another one gives from now on is refused, if it was only thought to be gone.
    """
    keys = broker.keys
    found = ""
    while True:
        reply = await broker.script(
            scripts.TAKE_SOURCE, [keys.run, as_stored(keys.lease(found))], source, as_stored(found), worker
        )
        runner = name_in(reply)
        if runner in (worker, found):
            return runner
        found = runner


async def cursors_of(broker: Broker, source: str) -> dict[bytes, bytes]:
    """The cursors of a source, one for each set of arguments that it was given."""
    (reply,) = await broker.ask([(b"HGETALL", broker.keys.cursors)])
    if isinstance(reply, Exception):
        raise reply
    return {name: cursor for name, cursor in pairs(reply) if name.partition(b" ")[0] == source.encode()}
