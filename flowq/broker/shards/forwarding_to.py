"""Forwards from one shard to one other: does what the channel says is next."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.certainty import Retention
from flowq.broker.shards.channel import Ask, Bridge, Channel, EntryId, Mark, Offer, Read, Wait
from flowq.broker.shards.node_links import NodeLink, NodeLinks
from flowq.broker.shards.outbox import Entry
from flowq.broker.shards.outbox_contents import contents_of
from flowq.broker.shards.outboxes import Outboxes
from flowq.broker.shards.replicas import is_alone, replication
from flowq.broker.shards.target import Target
from flowq.delivery.edge import address
from flowq.errors import BrokerError, RequestCutOff

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0
_TRIES_BEFORE_WARNING = 3
_MOST_IDS = 5

log = logging.getLogger("flowq.broker")


class ForwardingTo:
    """One channel at work. By itself, so that a shard that does not answer delays no other."""

    def __init__(
        self,
        broker: Broker,
        source: int,
        links: NodeLinks,
        outboxes: Outboxes,
        on_outstanding: Callable[[Mapping[str, int]], None],
    ) -> None:
        self.to = broker.shard
        self.channel = Channel(self.to)
        self.retention = Retention()
        self.outstanding: dict[str, int] = {}
        self.n_lost = 0
        self._broker = broker
        self._source = source
        self._links = links
        self._outboxes = outboxes
        self._on_outstanding = on_outstanding
        self._target = Target(broker, source)
        self._now = broker.world.monotonic
        self._has_work = asyncio.Event()
        self._too_large: tuple[bytes, int] = b"", 0  # the entry that the target does not accept, and how often

    def wake(self) -> None:
        """Something has changed."""
        self._has_work.set()

    async def run(self) -> None:
        """Work until cancelled. Raises BrokerRefused and WrongLayout."""
        what = f"forwarding from shard {self._source} to shard {self.to}"
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            await retry_until_available(self._broker.world, self._work, what=what)

    @property
    def is_done(self) -> bool:
        """Whether all that the source has confirmed is applied, certain to stay so, and removed."""
        head, retention = self.channel.head.id, self.retention
        return head <= retention.certain and retention.to_remove is None

    async def _work(self) -> None:
        while (step := self.channel.next_step(self._now())) is not None:
            if isinstance(step, Wait):
                await self._wait(step.seconds)
                continue
            try:
                await self._take(step)
            except RequestCutOff:
                self.channel.lost_touch()
                await self._pause_if_too_large()
            except BrokerError:
                self.channel.lost_touch()
                raise

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._has_work.wait()
        self._has_work.clear()

    async def _take(self, step: Offer | Read | Ask | Bridge) -> None:
        link = await self._links.to(self.to)
        match step:
            case Ask():
                self._note_cursor(await self._target.cursor(link), link)
            case Offer(entries):
                if not await self._offer(link, entries):
                    self.channel.refused(self._now())
            case Read(after, up_to):
                entries = await self._outboxes.read(self.to, after, up_to)
                if not entries or not await self._offer(link, self.channel.within_limits(entries, entries[0].total)):
                    self._note_gap()
            case Bridge(gap):
                await self._bridge(link, gap)
            case _:
                assert_never(step)

    async def _offer(self, link: NodeLink, entries: Sequence[Entry]) -> bool:
        """Have the target apply entries. Returns whether they fit behind what it has applied."""
        try:
            applied = await self._target.apply(link, entries)
        except RequestCutOff as error:
            self._note_cut_off(entries, error)
            raise
        self.channel.fitted()
        self._too_large = b"", 0
        known = {EntryId.parse(entry.id): entry.total for entry in entries}
        before = self.channel.cursor
        total = known.get(applied.cursor, before.total if before is not None else 0)
        self._note_cursor(Mark(applied.cursor, total), link)
        self.outstanding.update(applied.outstanding)
        self._on_outstanding({address(self.to, edge): n for edge, n in applied.outstanding.items()})
        return not applied.is_gap

    def _note_cut_off(self, entries: Sequence[Entry], error: RequestCutOff) -> None:
        """Send less next time. One entry cannot be divided: it stays, and what is behind it, until it is accepted."""
        self.channel.was_too_much(len(entries))
        if len(entries) > 1:
            return
        (entry,) = entries
        known, n_times = self._too_large
        n_times = n_times + 1 if known == entry.id else 1
        self._too_large = entry.id, n_times
        if n_times == _TRIES_BEFORE_WARNING:
            ids = [each.header.partition(b" ")[0].decode() for each in contents_of(entry.call).messages]
            log.warning(
                "shard %d does not accept what shard %d has for it: %s, %d bytes; all that is behind it waits. Raise "
                "proto-max-bulk-len and client-query-buffer-limit of the Redis of shard %d (%s)",
                *(self.to, self._source, _listed(ids), len(entry.call), self.to, error.detail or error),
            )

    async def _pause_if_too_large(self) -> None:
        _, n_times = self._too_large
        if n_times:
            seconds = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(n_times, 10))
            await self._broker.world.pause(seconds)

    def _note_cursor(self, cursor: Mark, link: NodeLink) -> None:
        self.channel.answered(cursor)
        self.retention.applied(cursor.id, link)

    def _note_gap(self) -> None:
        self.channel.found_gap(self._now())
        self._links.look_again(self.to)  # this may be a primary that was replaced, and does not know it yet

    async def _bridge(self, link: NodeLink, gap: Mark) -> None:
        entries = await self._outboxes.read(self.to, gap.id, self.channel.head.id)
        behind = self.channel.head
        if entries:
            behind = Mark(EntryId.parse(entries[0].before), entries[0].total - entries[0].n_messages)
        cursor = await self._target.bridge(link, gap, behind)
        self._note_cursor(cursor, link)
        if cursor == behind:
            n_lost = max(0, behind.total - gap.total)
            self.n_lost += n_lost
            log.error(
                "shard %d has forgotten %d messages of shard %d that it had confirmed: they are lost",
                *(self.to, n_lost, self._source),
            )

    # What may be removed

    def link_to_look_over(self) -> NodeLink | None:
        """Where to ask what the target is certain to remember; None if there is nothing to ask."""
        if not self.retention.has_uncertain:
            return None
        link = self._links.known(self.to)
        if link is self.retention.connection:
            return link
        self.channel.lost_touch()  # the server may be another one, which has forgotten what the last one said
        self.wake()
        return None

    @staticmethod
    async def look_for_certainty(link: NodeLink, channels: Sequence[ForwardingTo]) -> None:
        """Ask a node what it is certain to remember. If it does not answer, the entries stay for longer."""
        broker = channels[0]._broker
        with contextlib.suppress(BrokerError):
            state = await replication(link, broker)
            link.is_alone = (link.is_alone and not state.online) or await is_alone(state, broker)
            for each in channels:
                each.retention.look(state, link, each._now(), is_alone=link.is_alone)


def _listed(message_ids: Sequence[str]) -> str:
    more = len(message_ids) - _MOST_IDS
    named = ", ".join(message_ids[:_MOST_IDS])
    return f"message{'s' * (len(message_ids) > 1)} {named}" + (f" and {more} more" if more > 0 else "")
