"""Reads the ends that the channels of a shard have in it: for views only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flowq.broker.client.rounds import Rounds
from flowq.broker.keys import Keys
from flowq.broker.shards.channel import Mark, marks_in


@dataclass(frozen=True, slots=True)
class Channels:
    """The ends of all channels of one shard: see `ChannelEnds`."""

    shard: int
    heads: Mapping[int, Mark]
    inbox: Mapping[int, Mark]


def channels_reading(keys: Keys) -> Rounds[Channels]:
    """The channels of one shard, in one round. A key of another type is by another program, and tells nothing."""
    replies = yield [(b"HGETALL", keys.heads), (b"HGETALL", keys.inbox)]
    heads, inbox = (marks_in([] if isinstance(reply, Exception) else reply) for reply in replies)
    return Channels(keys.shard, heads, inbox)
