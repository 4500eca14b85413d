"""Reads the edges of one stage under one consumer name, and finds what a lost reply left behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from itertools import chain
from typing import Any

from redis.exceptions import ResponseError

from flowq.broker.edges import Edges
from flowq.broker.keys import GROUP
from flowq.broker.paging import ReadSize
from flowq.broker.records import deliveries_of, rows_of
from flowq.broker.redis_streams import Broker
from flowq.delivery.message import Arrival, Delivery, Row
from flowq.errors import BrokerUnavailable, FlowqError

log = logging.getLogger("flowq.broker")

FIRST_PENDING = b"0"
_REPLY_MARGIN_SECONDS = 5.0
_IMPATIENT_PAUSE_SECONDS = 0.005
_MOST_PER_PAGE = 1000
_CUT_OFFS_OF_ONE = 3
_PASSED_OVER_SECONDS = 25.0
_MOST_BYTES = 8_000_000
_LITTLE_BYTES = 250_000


class Reader:
    """One reader of one stage: a connection of its own, one outstanding read at a time.

    A read is never cancelled: Redis may have handed entries to this consumer that the cancelled call would have
    returned, and they would stay pending. `unblock` has Redis end it instead.
    """

    def __init__(self, broker: Broker, edges: Sequence[str]) -> None:
        self._broker = broker
        self._now = broker.world.monotonic
        self._edges = tuple(edges)
        self._streams: list[Any] = [broker.keys.edge(edge) for edge in edges]
        self._edge_of = {stream.encode(): edge for stream, edge in zip(self._streams, edges, strict=True)}
        self._link = broker.link()
        self._client_id: int | None = None
        self._asked_at = 0.0  # start of the first read since the last success; 0: none
        self._size = ReadSize()
        self._unreadable: dict[tuple[str, bytes], float] = {}  # edge and id of messages that do not arrive, since when
        self._byte_limit: Sequence[Any] = ()  # of a read, if the server supports it
        self._n_turns = 0
        self._newest: dict[bytes, tuple[int, ...]] = {}  # by stream, the id that was read last
        self._was_set_back = False

    @property
    def silent_seconds(self) -> float:
        """For how long reads have failed. May be read from any thread."""
        asked_at = self._asked_at
        return self._now() - max(asked_at, self._link.progressed_at) if asked_at else 0.0

    async def read(self, worker: str, *, count: int, block_ms: int) -> list[Row]:
        """New deliveries, at most `count` from each edge; none when `block_ms` pass without any.

        Fewer after replies that were cut off on their way.
        """
        await self.connect()
        epoch, asked_at = self._broker.epoch, self._now()
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
        elif self._now() - asked_at < block_ms / 4000:
            # A server that does not block (a fake one, or one whose group has just been created again) must not be
            # polled in a tight loop.
            await asyncio.sleep(_IMPATIENT_PAUSE_SECONDS)
        if not reply:
            return []
        if len(reply) > 1:
            return list(chain.from_iterable(self._rows(stream, worker, epoch) for stream in reply))
        return self._rows(reply[0], worker, epoch)

    def _rows(self, stream: Any, worker: str, epoch: int) -> list[Row]:
        name, entries = stream
        return rows_of(Arrival(self._edge_of[name], worker, epoch), entries)

    def _next_stream(self) -> Any:
        self._n_turns += 1
        return self._streams[self._n_turns % len(self._streams)]

    async def own_pending(self, worker: str) -> list[Delivery]:
        """Everything that is pending for this consumer."""
        deliveries: list[Delivery] = []
        for edge in self._edges:
            after: bytes | None = FIRST_PENDING
            while after is not None:
                page, after = await self.page_of_own_pending(worker, edge, after=after)
                deliveries += page
        return deliveries

    async def page_of_own_pending(self, worker: str, edge: str, *, after: bytes) -> tuple[list[Delivery], bytes | None]:
        """The next page of what is pending for this consumer on one edge, and where to continue; None at the end.

        Pages become smaller like reads, so that a retry after BrokerUnavailable makes progress. A message that does not
        arrive even alone is skipped for a while: others must not wait until the limit is raised.
        """
        await self.connect()
        if self._unreadable and (entry_id := await self._next_pending(worker, edge, after)):
            since = self._unreadable.get((edge, entry_id))
            if since is not None and self._now() - since < _PASSED_OVER_SECONDS:
                return [], entry_id
        epoch, count = self._broker.epoch, self._size.bound(1 if self._unreadable else _MOST_PER_PAGE)
        try:
            reply = await self._ask(
                b"XREADGROUP", b"GROUP", GROUP, worker, b"COUNT", count, *self._byte_limit,
                b"STREAMS", self._broker.keys.edge(edge), after,
                count=count, timeout_seconds=_REPLY_MARGIN_SECONDS,
            )  # fmt: skip
        except BrokerUnavailable:
            if self._size.failures < _CUT_OFFS_OF_ONE or not (
                entry_id := await self._next_pending(worker, edge, after)
            ):
                raise
            self._pass_over(edge, entry_id)
            return [], entry_id
        page = deliveries_of(edge, reply[0][1], worker, epoch) if reply else []
        for delivery in page if self._unreadable else ():
            self._unreadable.pop((edge, delivery.entry_id), None)
        is_last = not page or (len(page) < count and not self._byte_limit)
        return page, None if is_last else page[-1].entry_id

    async def _next_pending(self, worker: str, edge: str, after: bytes) -> bytes | None:
        """Only the id of it."""
        command = b"XPENDING", self._broker.keys.edge(edge), GROUP, b"(" + after, b"+", 1, worker
        rows: Any = (await self._broker.ask([command]))[0]
        return None if isinstance(rows, Exception) or not rows else rows[0][0]

    def _pass_over(self, edge: str, entry_id: bytes) -> None:
        if (edge, entry_id) not in self._unreadable:
            log.warning(
                "message %s of %s cannot be read, and waits: see client-output-buffer-limit of Redis (flowq doctor)",
                entry_id.decode(), edge,
            )  # fmt: skip
        self._unreadable[edge, entry_id] = self._now()

    @property
    def passes_over(self) -> bool:
        """Whether there are messages that do not arrive."""
        return bool(self._unreadable)

    def found(self, n_bytes: int) -> None:
        """The size of what was found after replies were cut off. If it is small, size was not the cause."""
        now = self._now()
        for message, since in list(self._unreadable.items()):
            if now - since > 2 * _PASSED_OVER_SECONDS:  # it has been requested again since, or is gone
                del self._unreadable[message]
        if n_bytes < _LITTLE_BYTES and not self._unreadable:
            self._size = ReadSize()

    async def unblock(self) -> None:
        """Have Redis end the current read. One that does not block yet is not affected: repeat."""
        if self._client_id is not None:
            with contextlib.suppress(ResponseError, FlowqError):
                await self._broker.unblock(self._client_id)

    async def connect(self) -> None:
        """Open the connection. Call it before reading, and before noting an epoch: it begins one."""
        if not self._link.is_open:
            self._client_id = None
            commands = [(b"CLIENT", b"ID"), self._probe()]
            client_id, probed = await self._link.call_all(commands, timeout_seconds=_REPLY_MARGIN_SECONDS)
            self._client_id = client_id if isinstance(client_id, int) else None
            can_bound = isinstance(probed, ResponseError) and "MAXSIZE must be" in str(probed)
            self._byte_limit = (b"MAXSIZE", _MOST_BYTES) if can_bound else ()
        if self._was_set_back:
            await Edges(self._broker).ensure_groups(self._edges, revoke=True)
            self._was_set_back = False

    def _probe(self) -> Sequence[Any]:
        """Finds out whether the server can limit reads by bytes (Redis 8.10). Others report a syntax error."""
        if self._broker.dialer.is_private:
            return (b"PING",)
        return b"XREADGROUP", b"GROUP", GROUP, b"-", b"MAXSIZE", 0, b"STREAMS", self._streams[0], b">"

    async def _ask(self, *command: Any, count: int, timeout_seconds: float) -> Any:
        try:
            reply = await self._link.call(*command, timeout_seconds=timeout_seconds)
        except ResponseError:
            # The group, or the whole stream, is gone: FLUSHALL, DEL, XGROUP DESTROY, an empty replica promoted.
            self._broker.note_loss()
            self._newest.clear()
            await Edges(self._broker).ensure_groups(self._edges)
            return None
        except BrokerUnavailable:
            if not self._link.is_open:  # otherwise it was an error reply
                self._size.cut_off(count)
            raise
        if reply:
            self._size.arrived()
        return reply

    async def _note_order(self, reply: Any) -> None:
        """Notice a group that delivers entries again because it was created anew or set back.

        Other workers may hold what has just been read, and must not settle it in a batch. Nor must this process: what
        it has read belongs to an earlier epoch from now on.
        """
        for stream, entries in reply:
            if entries[0] and _number(entries[0][0]) <= self._newest.get(stream, ()):
                self._was_set_back = True
            if entries[-1]:
                self._newest[stream] = _number(entries[-1][0])
        if self._was_set_back:
            self._broker.note_loss()
            await self.connect()

    async def close(self) -> None:
        await self._link.close()


def _number(entry_id: bytes) -> tuple[int, ...]:
    """The order of ids."""
    return tuple(map(int, entry_id.split(b"-")))
