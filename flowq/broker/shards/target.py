"""Applies entries of one shard in another, over the link to the node that holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import NoScriptError

from flowq.broker import scripts
from flowq.broker.client.connection import Link
from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS, check_answer, run_script
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.channel import EntryId, Mark
from flowq.broker.shards.layout import has_changed
from flowq.broker.shards.outbox import Entry, packed, parse_descriptor


@dataclass(frozen=True, slots=True)
class Applied:
    """What a call has changed: the cursor, and how many messages are outstanding on each edge.

    `is_gap`: the target lacks what comes before one of the entries.
    """

    cursor: EntryId
    is_gap: bool
    outstanding: Mapping[str, int]


class Target:
    """One shard, as the outbox of another sees it."""

    def __init__(self, broker: Broker, source: int) -> None:
        self._broker = broker
        self._source = source

    async def cursor(self, link: Link) -> Mark:
        """The last entry of the source that was applied here."""
        reply = await link.call(b"HGET", self._broker.keys.inbox, self._source, timeout_seconds=CALL_TIMEOUT_SECONDS)
        return Mark.parse(reply)

    async def apply(self, link: Link, entries: Sequence[Entry]) -> Applied:
        """Apply entries, each once: those that were are passed over, and nothing behind a gap is applied.

        Raises WrongLayout if the shard believes in another number of shards.
        """
        edges = list(dict.fromkeys(edge for entry in entries for edge in entry.edges.split(b"\n")))
        (reply,) = await self._send(link, scripts.APPLY.by_digest(*self._head(edges, entries)), entries)
        if isinstance(reply, NoScriptError):
            (reply,) = await self._send(link, scripts.APPLY.by_text(*self._head(edges, entries)), entries)
        await check_answer(link, scripts.APPLY, reply, self._broker.dialer.address)
        if reply[0] == -2:
            raise await has_changed(self._broker)
        names = [edge.split(b" ", 1)[0].decode() for edge in edges]
        return Applied(EntryId.parse(reply[1]), reply[0] == -1, dict(zip(names, reply[3:], strict=True)))

    def _head(self, edges: Sequence[bytes], entries: Sequence[Entry]) -> tuple[Sequence[Any], Sequence[Any]]:
        keys = self._broker.keys
        targets = [keys.of_target(*parse_descriptor(edge.decode())) for edge in edges]
        names = [keys.stats, keys.heads, keys.inbox, keys.released, *(name for target in targets for name in target)]
        return names, [self._source, self._broker.layout, len(edges), len(entries), *edges]

    async def _send(self, link: Link, head: Sequence[Any], entries: Sequence[Entry]) -> list[Any]:
        """The words of an entry were packed by the worker that sent it: they are only put behind each other here."""
        n_words = len(head) + sum(3 + entry.n_words for entry in entries)
        parts = [b"*%d\r\n" % n_words, packed(head)]
        for entry in entries:
            parts += (packed((entry.id, entry.before, entry.total)), entry.call)
        return await link.replies_to_packed(b"".join(parts), 1, timeout_seconds=CALL_TIMEOUT_SECONDS)

    async def bridge(self, link: Link, gap: Mark, behind: Mark) -> Mark:
        """Go on behind a gap, and count what is lost. Returns the cursor."""
        keys = self._broker.keys
        arguments = self._source, str(gap.id), str(behind.id), behind.total
        (cursor,) = await run_script(link, scripts.BRIDGE, [keys.inbox, keys.stats], arguments)
        return Mark.parse(cursor)
