"""Reads and trims the outboxes of one shard, over a connection of its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from flowq.broker.client.connection import Link
from flowq.broker.client.redis_errors import translate
from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS
from flowq.broker.records import pairs
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.certainty import (
    Confirmation,
    Replication,
    confirmation_needed,
    creation_of,
    lacks_probe,
)
from flowq.broker.shards.channel import EntryId, Mark, marks_in
from flowq.broker.shards.outbox import Entry
from flowq.broker.shards.outbox_contents import stored_entry
from flowq.broker.shards.replicas import is_alone, replication

_BELIEVED_SECONDS = 1.0
_FIRST_READ, _MOST_READ = 16, 200
_SMALL_BYTES = 1_000_000
_MOST_NAMED = 5

log = logging.getLogger("flowq.broker")


class Outboxes:
    """The outboxes of one shard."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._keys = broker.keys
        # A link of its own: the connections of readers and settlers are counted, and WAIT blocks this one.
        self._link = Link(broker.dialer, broker.world, on_open=self._forget, on_failure=self._forget, renews=True)
        self._n_opened = 0
        self._state: Replication | None = None
        self._asked_at = 0.0
        self._is_alone = False
        self._n_to_read = _FIRST_READ
        self._passed_over: set[bytes] = set()  # entries that have been named

    def _forget(self) -> None:
        """Another connection may lead to another server."""
        self._n_opened += 1
        self._state, self._is_alone = None, False

    @property
    def missing(self) -> str:
        """Who could confirm what is in them, and does not."""
        if self._broker.durability == "replicated":
            return "neither a replica nor the append-only file (appendonly yes, from Redis 7.2 on)"
        return "no replica"

    async def heads(self) -> Mapping[int, Mark]:
        """The last entry for each shard. The server may still forget them."""
        (reply,) = await self._ask([(b"HGETALL", self._keys.heads)])
        return marks_in(reply, len(self._broker.shards))

    async def confirmed_heads(self) -> Mapping[int, Mark] | None:
        """The last entry for each shard, all of which the server is certain to remember; None if it is not.

        All in one request, on one connection: another one might be confirmed by a server that never had them.
        """
        needed, connection = await self._confirmation()
        if needed is None:
            return None
        probe = self._keys.probe
        reply, *confirmed = await self._link.replies_to(
            [(b"HGETALL", self._keys.heads), *needed.commands(probe)], timeout_seconds=CALL_TIMEOUT_SECONDS
        )
        if isinstance(reply, Exception):
            raise translate(reply, self._broker.dialer.address)
        if self._n_opened != connection:  # who confirms may be another one's replicas
            return None
        if not needed.is_given_by(confirmed):
            self._state = None
            if lacks_probe(confirmed):
                await self._ask([creation_of(probe)])
            return None
        return marks_in(reply, len(self._broker.shards))

    async def _confirmation(self) -> tuple[Confirmation | None, int]:
        """What must confirm the heads, and the connection on which that holds."""
        now, state = self._broker.world.monotonic(), self._state
        if state is None or now - self._asked_at > _BELIEVED_SECONDS:
            state = await replication(self._link, self._broker)
            self._is_alone = self._is_alone and not state.online
            self._state, self._asked_at = state, now
        connection = self._n_opened
        durability = self._broker.durability
        needed = confirmation_needed(durability, state, is_alone=self._is_alone)
        if needed is None and durability == "local":
            alone = await is_alone(state, self._broker)
            if self._n_opened != connection:  # meanwhile the connection has ended: that was about another server
                return None, connection
            self._is_alone = alone
            needed = confirmation_needed(durability, state, is_alone=alone)
        return needed, connection

    async def read(self, to: int, after: EntryId, up_to: EntryId) -> Sequence[Entry]:
        """The first entries for a shard after one and up to another."""
        first = after
        while True:
            n, key = self._n_to_read, self._keys.outbox_of(str(to))
            (reply,) = await self._ask([(b"XRANGE", key, f"({first}", str(up_to), b"COUNT", n)])
            found = [(entry_id, stored_entry(to, entry_id, dict(pairs(fields)))) for entry_id, fields in reply]
            entries = [entry for _, entry in found if entry is not None]
            n_bytes = sum(len(entry.call) for entry in entries)
            self._n_to_read = max(1, n // 2) if n_bytes > _SMALL_BYTES else min(_MOST_READ, n * 2)
            self._warn_of(key, {entry_id for entry_id, entry in found if entry is None})
            if entries or len(found) < n:
                return entries
            first = EntryId.parse(found[-1][0])

    def _warn_of(self, key: str, foreign: set[bytes]) -> None:
        for entry_id in sorted(foreign - self._passed_over)[:_MOST_NAMED]:
            log.warning(
                "%s has an entry that another program has put there: it is passed over. Look at it, and remove it: "
                "XDEL %s %s",
                *(key, key, entry_id.decode()),
            )
        self._passed_over = foreign if foreign else self._passed_over

    async def trim(self, up_to: Mapping[int, EntryId]) -> None:
        """Remove the entries for these shards up to and with these ids."""
        name = self._keys.outbox_of
        await self._ask([(b"XTRIM", name(str(to)), b"MINID", each.following) for to, each in up_to.items()])

    async def close(self) -> None:
        await self._link.close()

    async def _ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        return await self._link.answers(commands, timeout_seconds=CALL_TIMEOUT_SECONDS)
