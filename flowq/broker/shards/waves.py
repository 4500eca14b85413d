"""Looks at all shards of a pipeline, one after the other, and tells whether it is drained."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from flowq.broker.redis_streams import Broker


class Position(NamedTuple):
    """A point in the history of a channel: the id of an entry, and how many messages were sent up to it."""

    epoch: int
    number: int
    n: int


@dataclass(frozen=True, slots=True)
class Look:
    """What one shard looked like at one instant.

    `outstanding`: messages that wait, run or are delayed. `heads`: by target, what was last put into each outbox.
    `inbox`: by source, what was last applied. `counters` and `run` are as in a snapshot. `is_certain`: what was seen
    will not be forgotten by a failover.
    """

    shard: int
    outstanding: int
    heads: Mapping[int, Position] = field(default_factory=dict[int, Position])
    inbox: Mapping[int, Position] = field(default_factory=dict[int, Position])
    counters: Mapping[str, int] = field(default_factory=dict[str, int])
    run: Mapping[str, str] = field(default_factory=dict[str, str])
    is_certain: bool = True


async def look(broker: Broker, edges: Sequence[str]) -> Look:
    """Look at the shard of a broker. `edges`: all that may hold messages, those of other versions too.

    Raises BrokerUnavailable and BrokerRefused.
    """
    raise NotImplementedError


def is_drained(looks: Collection[Look]) -> bool:
    """Whether nothing is left to do in any shard. The looks, one at each shard, may be of different moments.

    Sources are another matter: the `run` of shard 0 tells whether they have finished.
    """
    by_shard = {each.shard: each for each in looks}
    return all(each.is_certain and not each.outstanding for each in looks) and all(
        head[:2] <= _position(by_shard.get(target), each.shard)[:2]
        for each in looks
        for target, head in each.heads.items()
    )


def in_transit(looks: Collection[Look]) -> int:
    """How many messages were put into outboxes and are not applied yet. Exact for looks of one moment."""
    by_shard = {each.shard: each for each in looks}
    return sum(
        max(0, head.n - _position(by_shard.get(target), each.shard).n)
        for each in looks
        for target, head in each.heads.items()
        if target in by_shard
    )


def _position(at: Look | None, source: int) -> Position:
    return at.inbox.get(source, _BEGINNING) if at else _BEGINNING


_BEGINNING = Position(0, 0, 0)
