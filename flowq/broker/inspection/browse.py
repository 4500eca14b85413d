"""Shows single messages of edges without consuming them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from flowq.broker import scripts
from flowq.broker.keys import GROUP
from flowq.broker.records import delayed_delivery, deliveries_of
from flowq.broker.redis_streams import Broker
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


@dataclass(frozen=True, slots=True)
class Sight:
    """A message as it was seen. `at_ms`: when it was appended, delivered to `worker`, is due, died or was settled."""

    state: State
    delivery: Delivery
    at_ms: int
    worker: str = ""


class Browser:
    """The messages of one pipeline, to look at."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def peek(
        self, edges: Sequence[str], *, most: int, after: Mapping[str, str] | None = None
    ) -> tuple[int, list[Sight]]:
        """The time in ms, and running, waiting and delayed messages: at most `most` of each on each edge.

        With `after`, an entry id for each edge: those appended since, in whatever state, as long as they exist.
        """
        keys = self._broker.keys
        names = [key for edge in edges for key in keys.of_edge(edge)]
        from_ids = [(after or {}).get(edge, "") for edge in edges]
        look = partial(self._broker.script, scripts.BROWSE, names, GROUP, most)
        try:
            now_ms, *seen = await look(1, *from_ids)
        except ReplyCutOff:
            now_ms, *seen = await look(0, *from_ids)
            for edge, found in zip(edges, seen, strict=True):
                await self._fill_in(edge, *found)
        sights: list[Sight] = []
        for edge, (running, waiting, delayed) in zip(edges, seen, strict=True):
            for entry_id, fields, worker, idle_ms in running:
                (delivery,) = deliveries_of(edge, [(entry_id, fields)], text_in(worker), 0)
                sights.append(Sight(State.RUNNING, delivery, now_ms - idle_ms, text_in(worker)))
            sights += [Sight(State.WAITING, one, one.appended_ms) for one in deliveries_of(edge, waiting, "", 0)]
            for due_ms, parked, _ in delayed:
                sights.append(Sight(State.DELAYED, delayed_delivery(edge, parked), moment_in(due_ms)))
        return now_ms, sights

    async def _fill_in(self, edge: str, running: list[Any], waiting: list[Any], delayed: list[Any]) -> None:
        """Read the bodies of what was seen, some at a time. Messages that have gone since are left out."""
        stream, parked = self._broker.keys.edge(edge), self._broker.keys.delayed_bodies(edge)
        for seen in (running, waiting):
            found = await self._broker.ask_each([(b"XRANGE", stream, message[0], message[0]) for message in seen])
            seen[:] = [[*entries[0], *message[2:]] for message, entries in zip(seen, found, strict=True) if entries]
        found = await self._broker.ask_each([(b"HGET", parked, name) for _, _, name in delayed])
        delayed[:] = [[due, body, name] for (due, _, name), body in zip(delayed, found, strict=True) if body]
