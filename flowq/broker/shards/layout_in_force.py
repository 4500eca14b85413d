"""Finds the layout in force for an open program that works by another."""

from __future__ import annotations

from asyncio import gather

from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.broker.shards.layout import LAYOUT_FIELD, has_changed, read_layout


async def broker_in_force(broker: Broker) -> Broker | None:
    """A new broker of shard 0, with those of all shards that Redis has on record; None while shards are moved.

    The given broker stays as it is, so that calls which began under its layout are refused and not misplaced: close
    both. Raises WrongLayout if no number is on record, WrongServers and BrokerUnavailable.
    """
    n_shards = await read_layout(broker)
    if n_shards is None:
        raise await has_changed(broker)
    home = broker.shards[0]
    first = Broker(home.dialer, home.keys, durability=home.durability, claims=home.claims, world=home.world)
    with_shards(first, n_shards)
    try:
        is_in_force = await _is_in_force(first)
    except BaseException:
        await close_shards(first)
        raise
    if is_in_force:
        return first
    await close_shards(first)
    return None


async def _is_in_force(first: Broker) -> bool:
    """Whether each shard has the layout on record. One that has none was emptied, and goes on."""
    layouts = await gather(*(each.answer(b"HGET", each.keys.heads, LAYOUT_FIELD) for each in first.shards))
    return all(layout in (None, b"%d" % len(first.shards)) for layout in layouts)
