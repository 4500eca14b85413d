"""Reads the edges of one stage under one consumer name, and finds what a lost reply left behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from flowq.broker.keys import GROUP
from flowq.broker.read_size import ReadSize
from flowq.broker.records import deliveries_of
from flowq.broker.redis_streams import Broker
from flowq.delivery.message import Delivery
from flowq.errors import BrokerUnavailable, FlowqError

log = logging.getLogger("flowq.broker")

FIRST_PENDING = b"0"
_REPLY_MARGIN_SECONDS = 5.0
_IMPATIENT_PAUSE_SECONDS = 0.005
_MOST_PER_PAGE = 1000
_MOST_BYTES = 8_000_000


class Reader:
    """One reader of one stage: a connection of its own, one outstanding read at a time.

    A read is never cancelled: Redis may have handed entries to this consumer that the cancelled call would have
    returned, and they would wait for a reader that does not know of them. `unblock` has Redis end it instead.
    """

    def __init__(self, broker: Broker, edges: Sequence[str]) -> None:
        self._broker = broker
        self._edges = tuple(edges)
        self._streams: list[Any] = [broker.keys.edge(edge) for edge in edges]
        self._edge_of = {stream.encode(): edge for stream, edge in zip(self._streams, edges, strict=True)}
        self._link = broker.link()
        self._client_id: int | None = None
        self._asked_at = 0.0  # when a read was begun that has not succeeded yet; 0: there is none
        self._size = ReadSize()
        self._byte_limit: Sequence[Any] = ()  # of a read, where the server knows such a thing
        self._n_turns = 0
        self._newest: dict[bytes, tuple[int, ...]] = {}  # by stream, the id that was read last
        self._was_set_back = False

    @property
    def silent_seconds(self) -> float:
        """For how long reading has been tried without success. May be asked from any thread."""
        asked_at = self._asked_at
        return time.monotonic() - asked_at if asked_at else 0.0

    async def read(self, worker: str, *, count: int, block_ms: int) -> list[Delivery]:
        """New deliveries, at most `count` from each edge; none when `block_ms` pass without any.

        Fewer after replies that were cut off on their way.
        """
        await self.connect()
        epoch, asked_at = self._broker.epoch, time.monotonic()
        self._asked_at = self._asked_at or asked_at
        count, streams = self._size.bound(count), self._streams
        if self._size.is_one_edge:
            streams, block_ms = [self._next_stream()], max(1, block_ms // len(streams))
        reply = await self._ask(
            b"XREADGROUP", b"GROUP", GROUP, worker, b"COUNT", count, *self._byte_limit, b"BLOCK", block_ms,
            b"STREAMS", *streams, *[b">"] * len(streams),
            count=count, timeout_seconds=block_ms / 1000 + _REPLY_MARGIN_SECONDS,
        )  # fmt: skip
        self._asked_at = 0.0
        if reply:
            await self._note_order(reply)
        elif time.monotonic() - asked_at < block_ms / 4000:
            # A server that does not wait (a fake one, or one whose group has just been made again) must not be
            # asked in a tight circle.
            await asyncio.sleep(_IMPATIENT_PAUSE_SECONDS)
        return self._deliveries(reply, worker, epoch)

    def _next_stream(self) -> Any:
        self._n_turns += 1
        return self._streams[self._n_turns % len(self._streams)]

    async def own_pending(self, worker: str) -> list[Delivery]:
        """Everything Redis holds as given to this consumer and not settled."""
        deliveries: list[Delivery] = []
        for edge in self._edges:
            after = FIRST_PENDING
            while page := await self.page_of_own_pending(worker, edge, after=after):
                deliveries += page
                after = page[-1].entry_id
        return deliveries

    async def page_of_own_pending(self, worker: str, edge: str, *, after: bytes = FIRST_PENDING) -> list[Delivery]:
        """The next of what Redis holds as given to this consumer on one edge; empty at the end.

        Pages become smaller like reads, so that asking again after BrokerUnavailable gets on.
        """
        await self.connect()
        epoch, count = self._broker.epoch, self._size.bound(_MOST_PER_PAGE)
        reply = await self._ask(
            b"XREADGROUP", b"GROUP", GROUP, worker, b"COUNT", count, *self._byte_limit,
            b"STREAMS", self._broker.keys.edge(edge), after,
            count=count, timeout_seconds=_REPLY_MARGIN_SECONDS,
        )  # fmt: skip
        return self._deliveries(reply, worker, epoch)

    def nothing_was_lost(self) -> None:
        """The replies that were cut off had carried nothing: it was not their size."""
        self._size = ReadSize()

    async def unblock(self) -> None:
        """Have Redis end the read under way. One that has not begun to wait yet does not notice: repeat."""
        if self._client_id is not None:
            with contextlib.suppress(ResponseError, FlowqError):
                await self._broker.unblock(self._client_id)

    async def connect(self) -> None:
        """Open the connection. Before anything is read, and before an epoch is noted: it begins one."""
        if not self._link.is_open:
            self._client_id = None
            self._client_id = await self._link.call(b"CLIENT", b"ID", timeout_seconds=_REPLY_MARGIN_SECONDS)
            await self._find_byte_limit()
        if self._was_set_back:
            await self._broker.ensure_groups(self._edges, revoke=True)
            self._was_set_back = False

    async def _find_byte_limit(self) -> None:
        """Bound reads by bytes where the server can (Redis 8.10). Any other answers this with a syntax error."""
        if self._broker.dialer.is_private:
            return
        probe = b"XREADGROUP", b"GROUP", GROUP, b"-", b"MAXSIZE", 0, b"STREAMS", self._streams[0], b">"
        (reply,) = await self._link.replies_to([probe], timeout_seconds=_REPLY_MARGIN_SECONDS)
        is_known = isinstance(reply, ResponseError) and "MAXSIZE must be" in str(reply)
        self._byte_limit = (b"MAXSIZE", _MOST_BYTES) if is_known else ()

    async def _ask(self, *command: Any, count: int, timeout_seconds: float) -> Any:
        try:
            reply = await self._link.call(*command, timeout_seconds=timeout_seconds)
        except ResponseError:
            # The group, or the whole stream, is gone: FLUSHALL, DEL, XGROUP DESTROY, an empty replica promoted.
            self._broker.note_loss()
            self._newest.clear()
            await self._broker.ensure_groups(self._edges)
            return None
        except BrokerUnavailable:
            if not self._link.is_open:  # not an answer that says no
                self._size.cut_off(count)
                self._tell_of_limits()
            raise
        if reply:
            self._size.arrived()
        return reply

    def _tell_of_limits(self) -> None:
        if self._size.failures == 2:
            log.warning(
                "reading a single message of %s fails: see client-output-buffer-limit of Redis (flowq doctor)",
                ", ".join(self._edges),
            )

    async def _note_order(self, reply: Any) -> None:
        """Notice a group that gives again what it gave before: somebody has made it anew, or set it back.

        Others may hold what has just been read, and must not settle it in a batch. Nor must this process: what it
        read belongs to an earlier epoch from now on.
        """
        for stream, entries in reply:
            if entries[0] and _number(entries[0][0]) <= self._newest.get(stream, ()):
                self._was_set_back = True
            if entries[-1]:
                self._newest[stream] = _number(entries[-1][0])
        if self._was_set_back:
            self._broker.note_loss()
            await self.connect()

    def _deliveries(self, reply: Any, worker: str, epoch: int) -> list[Delivery]:
        if not reply:
            return []
        if len(reply) == 1:
            return deliveries_of(self._edge_of[reply[0][0]], reply[0][1], worker, epoch)
        return [
            delivery
            for stream, entries in reply
            for delivery in deliveries_of(self._edge_of[stream], entries, worker, epoch)
        ]

    async def close(self) -> None:
        await self._link.close()


def _number(entry_id: bytes) -> tuple[int, ...]:
    """What ids are ordered by."""
    return tuple(map(int, entry_id.split(b"-")))
