"""The brokers of all shards of a pipeline: made beside the broker of shard 0, and closed with it."""

from __future__ import annotations

from asyncio import gather

from flowq.broker.client.many_servers import dialer_beside
from flowq.broker.redis_streams import Broker


def with_shards(broker: Broker, n_shards: int) -> Broker:
    """The same broker, with the brokers of so many shards in its `shards`, itself the first.

    Those that it has already stay. The others share its store of large bodies, its durability and its clock; nothing is
    connected yet.
    """
    brokers = (*broker.shards[:n_shards], *(_beside(broker, shard) for shard in range(len(broker.shards), n_shards)))
    for each in brokers:
        each.shards = brokers
    return broker


def _beside(broker: Broker, shard: int) -> Broker:
    keys = broker.keys.in_shard(shard)
    dialer = dialer_beside(broker.dialer, keys.tag, shard)
    return Broker(dialer, keys, durability=broker.durability, claims=broker.claims, world=broker.world)


async def close_shards(broker: Broker) -> None:
    """Close the brokers of all shards."""
    await gather(*(each.close() for each in broker.shards))
