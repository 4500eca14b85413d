"""Finds the family of a message in all that a pipeline holds, some headers at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flowq.broker import scripts
from flowq.broker.inspection.browse import State
from flowq.broker.keys import GROUP
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.every_shard import VIEW_PATIENCE_SECONDS, SilentShard, ask_every_shard
from flowq.broker.shards.outbox_contents import applied_up_to, sent_after
from flowq.delivery.letter_ids import LetterId
from flowq.delivery.message import Header
from flowq.delivery.stored import entry_ms, moment_in, text_in
from flowq.graph.compilation.plan import Plan

_PER_CALL = 1000  # entries that one call searches: Redis does nothing else meanwhile
_MOST_FOUND = 50_000
_ENTRIES_PER_CALL = 20  # of an outbox: each holds up to some hundred messages, with their bodies


@dataclass(frozen=True, slots=True)
class Found:
    """Where one message of a family is; `place` is an edge, or a stage for what is dead or done.

    `at_ms`: when it was appended, is due, died or was settled. `started_ms`: when it was handed to `worker`; 0 unless
    it is running. `appended_ms`: when it was appended to its edge for the first time; 0 if unknown. `raw` is its header
    as it is stored: a family may have 50,000 members. `shard` is where it is, or where it comes from while it is in
    transit; None in a pipeline that has only one.
    """

    raw: bytes
    state: State
    place: str
    at_ms: int
    worker: str = ""
    entry_id: str = ""
    started_ms: int = 0
    shard: int | None = None

    @property
    def header(self) -> Header:
        return Header.decode(self.raw)

    @property
    def message_id(self) -> str:
        return self.raw.partition(b" ")[0].decode()

    @property
    def parent_id(self) -> str:
        """The id of its parent, "-" for none."""
        return self.raw.split(b" ", 3)[2].decode()

    @property
    def appended_ms(self) -> int:
        on_its_edge = self.state in (State.WAITING, State.RUNNING)
        return self.header.first_ms or (self.at_ms if on_its_edge else 0)


@dataclass(slots=True)
class _Place:
    """A stream, or the delayed messages of an edge, and how far it was searched; `position` "" means to its end."""

    broker: Broker
    names: Sequence[str]
    state: State
    name: str
    length: int = 0
    begin: str = "-"
    position: str = "-"

    @property
    def shard(self) -> int | None:
        return self.broker.shard if len(self.broker.shards) > 1 else None


class FamilySearch:
    """A search for a message and its family: all messages with the same root.

    It ends when everything in the pipeline has been searched once, or twice if the message has another root. It keeps
    the first 50,000 members; `left_out` counts the others. Places with few messages come first. A message that moves
    meanwhile may be found in two places, or in none. `silent` are the shards that did not answer when it began, and
    are not searched.

    Methods raise BrokerUnavailable when Redis does not answer; the search can then continue.
    """

    def __init__(self, plan: Plan, broker: Broker, message_id: str) -> None:
        self.message_id = message_id
        self.root_id = ""  # until one of the family is found
        self.found: list[Found] = []
        self.left_out = 0
        self.silent: Sequence[SilentShard] = ()
        self._plan = plan
        self._broker = broker
        self._places: list[_Place] = []
        self._looked_at = 0
        self._has_begun = False

    @property
    def total(self) -> int:
        """How many messages there were to search when it began."""
        return sum(place.length for place in self._places)

    @property
    def looked_at(self) -> int:
        """How many of them have been searched so far."""
        return min(self._looked_at, self.total)

    @property
    def is_complete(self) -> bool:
        return self._has_begun and not any(place.position for place in self._places)

    async def step(self, most: int = 10_000) -> None:
        """Search the next `most` headers, a thousand in each call."""
        if not self._has_begun:
            self._places = await self._places_by_length()
            self._has_begun = True
        while most > 0 and not self.is_complete:
            place = next(place for place in self._places if place.position)
            n_before = self._looked_at
            await self._look(place, min(most, _PER_CALL))
            most -= max(1, self._looked_at - n_before)

    async def _places_by_length(self) -> list[_Place]:
        found = await ask_every_shard(self._broker, self._places_of, patience_seconds=VIEW_PATIENCE_SECONDS)
        self.silent = found.silent
        places = [place for each in found.by_shard.values() for place in each]
        if len(self._broker.shards) > 1:
            places += await _outboxes(self._broker, found.by_shard)
        return sorted(places, key=lambda place: place.length)

    async def _places_of(self, broker: Broker) -> list[_Place]:
        plan, keys, place_of = self._plan, broker.keys, partial(_Place, broker)
        places = [place_of([keys.dead(stage.name)], State.DEAD, stage.name) for stage in plan.consumers]
        keeping = [stage.name for stage in plan.consumers if stage.keep is not None]
        places += [place_of([keys.kept(stage)], State.DONE, stage) for stage in keeping]
        for edge in plan.edges:
            places.append(place_of([keys.edge(edge.name)], State.WAITING, edge.name))
            places.append(place_of([keys.delayed(edge.name), keys.delayed_bodies(edge.name)], State.DELAYED, edge.name))
        commands = [(b"ZCARD" if len(place.names) > 1 else b"XLEN", place.names[0]) for place in places]
        for place, length in zip(places, await broker.ask(commands), strict=True):
            place.length = length if isinstance(length, int) else 0
        return places

    async def _look(self, place: _Place, most: int) -> None:
        wanted = self.root_id or self.message_id
        if place.state is State.IN_TRANSIT:
            n, position, found = await _in_outbox(place, wanted)
        else:
            look = partial(place.broker.script, scripts.FIND_FAMILY, place.names, GROUP, wanted, place.position)
            reply, _ = await place.broker.paging.ask(look, most)
            n, position, found = int(reply[1]), text_in(reply[0]), _found_in(place, reply[2:])
        self._looked_at += n
        if found and not self.root_id:
            self.root_id = found[0].header.root_id
            if self.root_id != self.message_id:  # messages before it may belong to its family too
                self._looked_at = 0
                for each in self._places:
                    each.position = each.begin
                return
        room = _MOST_FOUND - len(self.found)
        self.found += found[:room]
        self.left_out += len(found[room:])
        place.position = position


def _found_in(place: _Place, words: Sequence[Any]) -> list[Found]:
    found: list[Found] = []
    for at, raw, worker, started_ms in zip(words[::4], words[1::4], words[2::4], words[3::4], strict=True):
        with contextlib.suppress(ValueError):  # what only looks like a header belongs to no family
            Header.decode(raw)
            found.append(_one(place, text_in(at), raw, text_in(worker), started_ms))
    return found


def _one(place: _Place, at: str, raw: bytes, worker: str, started_ms: int) -> Found:
    if place.state is State.DELAYED:
        return Found(raw, State.DELAYED, place.name, moment_in(at), shard=place.shard)
    state = State.RUNNING if worker else place.state
    entry_id = str(LetterId.parse(at)._replace(shard=place.shard))
    return Found(raw, state, place.name, entry_ms(at), worker, entry_id, started_ms, place.shard)


async def _outboxes(broker: Broker, shards: Collection[int]) -> list[_Place]:
    """What is in transit between shards that answer, as far as it is not applied yet."""
    found: list[_Place] = []
    for target in (shard for shard in broker.shards if shard.shard in shards):
        for source in (shard for shard in broker.shards if shard.shard in shards and shard is not target):
            after = await applied_up_to(target, source.shard) or "-"
            place = _Place(source, [str(target.shard)], State.IN_TRANSIT, "", begin=after, position=after)
            found.append(place)
    return found


async def _in_outbox(place: _Place, wanted: str) -> tuple[int, str, list[Found]]:
    """How many messages were searched, where to go on, and those of the family."""
    (to,) = place.names
    after = "" if place.position == "-" else place.position
    sent, position = await sent_after(place.broker, int(to), after, _ENTRIES_PER_CALL)
    family = [each for each in sent if wanted.encode() in each.header.split(b" ", 3)[:3]]
    seen = [Found(each.header, State.IN_TRANSIT, each.edge, 0, shard=place.shard) for each in family]
    return len(sent), position, seen
