"""How many messages are in transit between shards, by what each shard has on record: for views only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowq.broker.client.rounds import Rounds
from flowq.broker.keys import Keys
from flowq.broker.records import pairs
from flowq.delivery.stored import count_in, text_in

InTransit = Mapping[tuple[int, int], int]
"""Messages that one shard has sent and another has not applied yet, by both; channels with none are left out."""


@dataclass(frozen=True, slots=True)
class Channels:
    """One end of all channels of a shard: messages it has sent to others, and has applied of others, by shard."""

    sent: Mapping[int, int]
    applied: Mapping[int, int]


def channels_reading(keys: Keys) -> Rounds[Channels]:
    """The channels of one shard, in one round."""
    inbox, heads = yield [(b"HGETALL", keys.inbox), (b"HGETALL", keys.heads)]
    return Channels(_totals(heads), _totals(inbox))


def _totals(reply: Any) -> dict[int, int]:
    """By shard, the number that follows the id of an entry. `heads` has other fields besides."""
    if isinstance(reply, Exception):  # a key of another type: by another program
        return {}
    named = ((text_in(name), text_in(value).partition(" ")[2]) for name, value in pairs(reply))
    return {int(name): max(0, count_in(total)) for name, total in named if name.isascii() and name.isdecimal()}


def in_transit(by_shard: Mapping[int, Channels]) -> InTransit:
    """What is in transit between shards that have answered.

    The two ends of a channel are seen one after the other: what arrived in between is not counted.
    """
    found = {
        (source, target): sent - by_shard[target].applied.get(source, 0)
        for source, channels in by_shard.items()
        for target, sent in channels.sent.items()
        if target in by_shard
    }
    return {channel: n for channel, n in found.items() if n > 0}
