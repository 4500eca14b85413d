"""Shows single messages of edges without consuming them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

from flowq.broker import scripts
from flowq.broker.keys import GROUP
from flowq.broker.records import delayed_delivery, deliveries_of
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.every_shard import VIEW_PATIENCE_SECONDS, SilentShard, ask_every_shard
from flowq.delivery.message import Delivery
from flowq.delivery.stored import moment_in, text_in
from flowq.errors import ReplyCutOff


class State(StrEnum):
    """Where a message is."""

    WAITING = "waiting"
    RUNNING = "running"
    DELAYED = "delayed"
    DEAD = "dead"
    DONE = "done"  # settled, and kept
    IN_TRANSIT = "in transit"  # from one shard to another


@dataclass(frozen=True, slots=True)
class Sight:
    """A message as it was seen. `at_ms`: when it was appended, delivered to `worker`, is due, died or was settled."""

    state: State
    delivery: Delivery
    at_ms: int
    worker: str = ""
    shard: int = 0


class Browser:
    """The messages of one pipeline, to look at. `silent` are the shards that did not answer the last time."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.silent: Sequence[SilentShard] = ()

    async def peek(
        self, edges: Sequence[str], *, most: int, after: Mapping[tuple[int, str], str] | None = None
    ) -> tuple[int, list[Sight]]:
        """The time in ms, and running, waiting and delayed messages: at most `most` of each on each edge.

        With `after`, an entry id for each shard and edge: those appended since, in whatever state, as long as they
        exist. The messages of `silent` shards are missing.
        """
        look = partial(self._peek, edges, most=most, after=after)
        found = await ask_every_shard(self._broker, look, patience_seconds=VIEW_PATIENCE_SECONDS)
        self.silent = found.silent
        if len(self._broker.shards) == 1:
            return found.by_shard[self._broker.shard]
        now_ms = min(now_ms for now_ms, _ in found.by_shard.values())
        return now_ms, _in_order({shard: seen for shard, (_, seen) in found.by_shard.items()}, edges, most)

    async def _peek(
        self, edges: Sequence[str], shard: Broker, *, most: int, after: Mapping[tuple[int, str], str] | None
    ) -> tuple[int, list[Sight]]:
        keys = shard.keys
        names = [key for edge in edges for key in keys.of_edge(edge)]
        from_ids = [(after or {}).get((shard.shard, edge), "") for edge in edges]
        look = partial(shard.script, scripts.BROWSE, names, GROUP, most)
        try:
            now_ms, *seen = await look(1, *from_ids)
        except ReplyCutOff:
            now_ms, *seen = await look(0, *from_ids)
            for edge, found in zip(edges, seen, strict=True):
                await self._fill_in(shard, edge, *found)
        sights: list[Sight] = []
        for edge, (running, waiting, delayed) in zip(edges, seen, strict=True):
            for entry_id, fields, worker, idle_ms in running:
                (delivery,) = deliveries_of(edge, [(entry_id, fields)], text_in(worker), 0)
                sights.append(Sight(State.RUNNING, delivery, now_ms - idle_ms, text_in(worker)))
            sights += [Sight(State.WAITING, one, one.appended_ms) for one in deliveries_of(edge, waiting, "", 0)]
            for due_ms, parked, _ in delayed:
                sights.append(
                    Sight(State.DELAYED, delayed_delivery(edge, parked), moment_in(due_ms), shard=shard.shard)
                )
        return now_ms, sights

    async def _fill_in(
        self, shard: Broker, edge: str, running: list[Any], waiting: list[Any], delayed: list[Any]
    ) -> None:
        """Read the bodies of what was seen, some at a time. Messages that have gone since are left out."""
        stream, parked = shard.keys.edge(edge), shard.keys.delayed_bodies(edge)
        for seen in (running, waiting):
            found = await shard.ask_each([(b"XRANGE", stream, message[0], message[0]) for message in seen])
            seen[:] = [[*entries[0], *message[2:]] for message, entries in zip(seen, found, strict=True) if entries]
        found = await shard.ask_each([(b"HGET", parked, name) for _, _, name in delayed])
        delayed[:] = [[due, body, name] for (due, _, name), body in zip(delayed, found, strict=True) if body]


def _in_order(seen: Mapping[int, Sequence[Sight]], edges: Sequence[str], most: int) -> list[Sight]:
    """What was seen in all shards by edge, state and time, at most `most` of each."""
    found: dict[tuple[str, State], list[Sight]] = {(edge, state): [] for edge in edges for state in State}
    for shard, sights in seen.items():
        for sight in sights:
            found[sight.delivery.edge, sight.state].append(replace(sight, shard=shard))
    return [sight for each in found.values() for sight in sorted(each, key=lambda sight: sight.at_ms)[:most]]
