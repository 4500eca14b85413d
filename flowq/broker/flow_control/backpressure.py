"""The edges that a stage feeds, and whether they are too full for it to continue."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from flowq.broker.edges import Edges
from flowq.broker.redis_streams import Broker
from flowq.delivery.chunks import MOST_BYTES_PER_CALL
from flowq.errors import BrokerUnavailable
from flowq.graph.compilation.plan import EdgePlan

_RESUME_AT = 0.8
LOOK_EVERY_SECONDS = 0.1
_WEIGH_AFTER, _WEIGH_AFTER_AT_LEAST = 1 / 8, 1 / 64
_WEIGHT = 0.5


class Backpressure:
    """Back-pressure from what follows: full at an edge's limit, free again at four fifths of it.

    The reply to every commit says how many messages the edges hold, so that this costs nothing while the stage works;
    only a stage that has stopped has to ask. Their memory must be asked for. That is done when an eighth of the room
    that was left the last time has been sent since: rarely while there is much room, and often when there is little.
    Until then everything sent counts for each edge, as if nothing had been removed from it.
    """

    def __init__(self, broker: Broker, edges: Sequence[EdgePlan]) -> None:
        self._broker = broker
        self._limits = {edge.name: edge.maxsize for edge in edges if edge.maxsize}
        self._byte_limits = {edge.name: edge.maxsize_bytes for edge in edges if edge.maxsize_bytes}
        self._full: set[str] = set()
        self._heavy: set[str] = set()
        self._room_bytes = min(self._byte_limits.values(), default=0)  # of the fullest edge, when it was last asked for
        self._sent_bytes = 0  # since then
        self._bytes_each = 0.0  # sent for one message handled, as a moving average
        self._is_due = bool(self._byte_limits)

    def bound(self, read_ahead: int) -> int:
        """How much may be read ahead: a reader that stops at the limit has at most as much again in flight."""
        bounds: list[float] = [read_ahead, *self._limits.values()]
        if self._bytes_each and self._byte_limits:
            bounds.append(max(0, self._room_bytes - self._sent_bytes) / self._bytes_each)
        return int(min(bounds))

    @property
    def most_bytes(self) -> int:
        """The size of what one call may add: a small part of what the smallest edge may hold."""
        return min([MOST_BYTES_PER_CALL, *(1 + limit // 10 for limit in self._byte_limits.values())])

    @property
    def are_full(self) -> bool:
        return bool(self._full or self._heavy)

    @property
    def need_a_look(self) -> bool:
        """Whether to call `look_again` before continuing."""
        return bool(self._full or self._heavy or self._is_due)

    def note(self, outstanding: Mapping[str, int]) -> None:
        """Note how many messages are outstanding on some edges."""
        _mark(self._full, outstanding, self._limits)

    def sent(self, n_bytes: int, *, handled: int) -> None:
        """Note that bytes were sent, and for how many messages."""
        if not self._byte_limits or not handled:
            return
        self._sent_bytes += n_bytes
        each = n_bytes / handled
        self._bytes_each = each if not self._bytes_each else self._bytes_each + (each - self._bytes_each) * _WEIGHT
        least = _WEIGH_AFTER_AT_LEAST * min(self._byte_limits.values())
        self._is_due = self._sent_bytes > max(least, self._room_bytes * _WEIGH_AFTER)

    async def count(self) -> None:
        """Ask how many messages the edges hold, for callers without commits that say so."""
        if self._limits:
            with contextlib.suppress(BrokerUnavailable):
                self.note(await Edges(self._broker).outstanding(list(self._limits)))

    async def look_again(self) -> None:
        """Ask for what is unknown, after a pause if they are full."""
        if self.are_full:
            await self._broker.world.pause(self._next_pause_seconds())
        if self._full:
            await self.count()
        if self._heavy or self._is_due:
            await self._weigh()

    def _next_pause_seconds(self) -> float:
        return LOOK_EVERY_SECONDS

    async def until_free(self) -> None:
        """Wait while one of them is full."""
        while self.need_a_look:
            await self.look_again()

    async def _weigh(self) -> None:
        self._is_due = False  # first: a Redis that does not answer must not be asked in a loop
        sent_bytes = self._sent_bytes
        with contextlib.suppress(BrokerUnavailable):
            taken = await self._memory()
            _mark(self._heavy, taken, self._byte_limits)
            self._sent_bytes -= sent_bytes  # what has been sent since may be in it or not
            self._room_bytes = min(self._byte_limits[edge] - n_bytes for edge, n_bytes in taken.items())

    async def _memory(self) -> Mapping[str, int]:
        return await Edges(self._broker).memory(list(self._byte_limits))


def _mark(full: set[str], taken: Mapping[str, int], limits: Mapping[str, int]) -> None:
    for edge, n in taken.items():
        limit = limits.get(edge)
        if limit is None:
            continue
        if n >= limit:
            full.add(edge)
        elif n < limit * _RESUME_AT:
            full.discard(edge)
