"""Asks a server what it says of its replicas, and other servers whether that is so."""

from __future__ import annotations

import contextlib

from flowq.broker.client.connection import Link
from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS
from flowq.broker.client.topology import others_see_no_replica
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.certainty import IN_MEMORY, Replication

INFO = b"INFO", b"replication"
_INFO_OF_DISK = b"INFO", b"persistence"


async def replication(link: Link, broker: Broker) -> Replication:
    """What the server at the other end says of its replicas. Raises BrokerUnavailable and BrokerRefused."""
    if broker.dialer.is_private:
        return IN_MEMORY
    return Replication.parse(*await link.answers([INFO, _INFO_OF_DISK], timeout_seconds=CALL_TIMEOUT_SECONDS))


async def is_alone(state: Replication, broker: Broker) -> bool:
    """Whether a server without a replica is believed."""
    if state.online or state.has_syncing_replica or state.forgets_nothing:
        return False
    with contextlib.suppress(Exception):  # none can be asked
        return await others_see_no_replica(broker.dialer)
    return False
