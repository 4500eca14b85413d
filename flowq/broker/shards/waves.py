"""Looks at each shard of a pipeline, and tells by all looks together whether it is drained."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from flowq.broker import scripts
from flowq.broker.client.retrying import again_if_lost
from flowq.broker.edges import Edges
from flowq.broker.keys import GROUP
from flowq.broker.records import texts_by_name
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.certainty import Confirmation, Replication, confirmation_needed, creation_of, lacks_probe
from flowq.broker.shards.channel import BEGINNING, Mark, marks_in
from flowq.broker.shards.replicas import INFO, is_alone

InTransit = Mapping[tuple[int, int], int]
"""Messages that one shard has sent and another has not applied yet, by both; channels with none are left out."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one shard looked like at one instant.

    `outstanding`: messages that wait, run or are delayed. `heads`: by target, what was last put into each outbox.
    `inbox`: by source, what was last applied. `run` is as in a snapshot. `is_certain`: no failover will undo what was
    seen. A shard that has work left is never asked for that.
    """

    shard: int
    outstanding: int
    heads: Mapping[int, Mark] = field(default_factory=dict[int, Mark])
    inbox: Mapping[int, Mark] = field(default_factory=dict[int, Mark])
    run: Mapping[str, str] = field(default_factory=dict[str, str])
    is_certain: bool = False


async def look(broker: Broker, edges: Sequence[str]) -> Look:
    """Look at the shard of a broker. `edges`: all that may hold messages, those of other versions too.

    Takes up to 0.25 s where a replica has to confirm. Raises BrokerUnavailable and BrokerRefused.
    """
    keys = broker.keys
    names = [keys.heads, keys.inbox, keys.run]
    names += [name for edge in edges for name in (keys.edge(edge), keys.delayed(edge))]
    seen = _look(broker, await again_if_lost(lambda: broker.script(scripts.WAVE, names, GROUP)))
    if seen.outstanding:
        return seen
    if broker.dialer.is_private:
        return replace(seen, is_certain=True)
    state = Replication.parse(await broker.answer(*INFO))
    alone = await is_alone(state, broker)
    needed = confirmation_needed("local", state, is_alone=alone)
    return await _confirmed_look(broker, names, needed) if needed else seen


async def _confirmed_look(broker: Broker, names: Sequence[Any], needed: Confirmation) -> Look:
    """Look once more, and have it confirmed in the same request: another connection may lead to another server."""
    probe = broker.keys.probe
    request = [scripts.WAVE.by_digest(names, (GROUP,)), INFO, *needed.commands(probe)]
    wave, about, *confirmed = await broker.answers(request)
    if lacks_probe(confirmed):
        await broker.answer(*creation_of(probe))
        wave, about, *confirmed = await broker.answers(request)
    state = Replication.parse(about)
    is_same = state.is_primary and len(state.online) == needed.replicas
    return replace(_look(broker, wave), is_certain=is_same and needed.is_given_by(confirmed))


def _look(broker: Broker, reply: Sequence[Any]) -> Look:
    outstanding, heads, inbox, run = reply
    n_shards = len(broker.shards)  # what is noted of shards that there were once, or never, is in transit to no one
    return Look(broker.shard, outstanding, marks_in(heads, n_shards), marks_in(inbox, n_shards), texts_by_name(run))


def is_drained(looks: Collection[Look]) -> bool:
    """Whether nothing is left to do in any shard, and nothing is between them.

    The looks, one at each shard, may be of different moments. Let some shard be the first that becomes active after its
    own look. A message from another one has caused that. If it was sent before the look at its sender, that look shows
    a head behind it, and the cursor that was seen at the target covers the head: it had been applied before. If it was
    sent later, its sender had become active first. Totals over all channels would not do.

    Sources are another matter: the `run` of shard 0 tells whether they have finished.
    """
    by_shard = {each.shard: each for each in looks}
    return all(each.is_certain and not each.outstanding for each in looks) and all(
        head.id <= _cursor(by_shard.get(target), each.shard).id for each in looks for target, head in each.heads.items()
    )


class ChannelEnds(Protocol):
    """What was seen of the channels of one shard: by target the last entry sent, by source the last one applied."""

    @property
    def shard(self) -> int: ...

    @property
    def heads(self) -> Mapping[int, Mark]: ...

    @property
    def inbox(self) -> Mapping[int, Mark]: ...


def in_transit(seen: Iterable[ChannelEnds]) -> InTransit:
    """What is in transit between the shards that were seen. Exact if all were seen at one moment.

    What a target applied after its source was seen is not counted.
    """
    by_shard = {each.shard: each for each in seen}
    return {
        (source, target): n
        for source, ends in by_shard.items()
        for target, head in ends.heads.items()
        if target in by_shard and (n := head.total - by_shard[target].inbox.get(source, BEGINNING).total) > 0
    }


def _cursor(at: Look | None, source: int) -> Mark:
    return at.inbox.get(source, BEGINNING) if at else BEGINNING


async def is_any_outstanding(broker: Broker, edges: Sequence[str]) -> bool:
    """Whether anything waits, runs or is delayed on these edges, in any shard, or is in transit."""
    if len(broker.shards) == 1:
        return any((await Edges(broker).outstanding(edges)).values())
    looks = await gather(*(look(each, edges) for each in broker.shards))
    return any(each.outstanding for each in looks) or bool(in_transit(looks))
