"""Reads the edges of one stage under one consumer name, and finds what a lost reply left behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from flowq.broker.keys import GROUP
from flowq.broker.records import deliveries_of
from flowq.broker.redis_streams import Broker
from flowq.delivery.message import Delivery
from flowq.errors import FlowqError

_REPLY_MARGIN_SECONDS = 5.0
_IMPATIENT_PAUSE_SECONDS = 0.005


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

    @property
    def silent_seconds(self) -> float:
        """For how long reading has been tried without success. May be asked from any thread."""
        asked_at = self._asked_at
        return time.monotonic() - asked_at if asked_at else 0.0

    async def read(self, worker: str, *, count: int, block_ms: int) -> list[Delivery]:
        """New deliveries, at most `count` from each edge; none when `block_ms` pass without any."""
        await self.connect()
        epoch, asked_at = self._broker.epoch, time.monotonic()
        self._asked_at = self._asked_at or asked_at
        reply = await self._ask(
            b"XREADGROUP", b"GROUP", GROUP, worker, b"COUNT", count, b"BLOCK", block_ms,
            b"STREAMS", *self._streams, *[b">"] * len(self._streams),
            timeout_seconds=block_ms / 1000 + _REPLY_MARGIN_SECONDS,
        )  # fmt: skip
        self._asked_at = 0.0
        if not reply and time.monotonic() - asked_at < block_ms / 4000:
            # A server that does not wait (a fake one, or one whose group has just been made again) must not be
            # asked in a tight circle.
            await asyncio.sleep(_IMPATIENT_PAUSE_SECONDS)
        return self._deliveries(reply, worker, epoch)

    async def own_pending(self, worker: str, *, limit: int = 10_000) -> list[Delivery]:
        """Everything Redis holds as given to this consumer and not settled."""
        await self.connect()
        epoch = self._broker.epoch
        reply = await self._ask(
            b"XREADGROUP", b"GROUP", GROUP, worker, b"COUNT", limit,
            b"STREAMS", *self._streams, *[b"0"] * len(self._streams),
            timeout_seconds=_REPLY_MARGIN_SECONDS,
        )  # fmt: skip
        return self._deliveries(reply, worker, epoch)

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

    async def _ask(self, *command: Any, timeout_seconds: float) -> Any:
        try:
            return await self._link.call(*command, timeout_seconds=timeout_seconds)
        except ResponseError:
            # The group, or the whole stream, is gone: FLUSHALL, DEL, XGROUP DESTROY, an empty replica promoted.
            self._broker.note_loss()
            await self._broker.ensure_groups(self._edges)
            return None

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
