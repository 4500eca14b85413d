"""Forwards what lies in the outboxes of one shard to the shards it is for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.channel import BEGINNING, Mark
from flowq.broker.shards.forwarding_to import ForwardingTo
from flowq.broker.shards.gathering import Gathering
from flowq.broker.shards.node_links import NodeLink, NodeLinks
from flowq.broker.shards.outbox import Entry
from flowq.broker.shards.outboxes import Outboxes
from flowq.errors import BrokerUnavailable

_LOOK_SECONDS = 0.1
_PATIENCE_SECONDS = 5.0
_POLL_SECONDS = 0.01

log = logging.getLogger("flowq.broker")


class Forwarder:
    """Forwards what lies in the outboxes of one shard. One for each lane; several of one shard do no harm.

    An entry is offered once its source is certain to remember it, and removed once its target is certain to remember
    that it applied it. `links`: shared by all forwarders of a process, which then have one connection for each node.
    `on_outstanding` is told how many messages are outstanding on edges of other shards, by address, after each call.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        links: NodeLinks | None = None,
        on_outstanding: Callable[[Mapping[str, int]], None] = lambda _: None,
    ) -> None:
        self._world = broker.world
        self._shard = broker.shard
        self._brokers = broker.shards
        self._owns_links = links is None
        self.links = links or NodeLinks(broker.shards)
        self._on_outstanding = on_outstanding
        self._outboxes = Outboxes(broker)
        self._gathering = Gathering()
        self._has_news = asyncio.Event()
        self._channels: dict[int, ForwardingTo] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._looking: set[NodeLink] = set()
        self._n_rounds = 0  # begun and confirmed since the start
        self._unconfirmed_since: float | None = None
        self._has_warned = False

    def note(self, entries: Sequence[Entry]) -> None:
        """Note entries that a call has just put into outboxes. They need not be read back."""
        now = self._world.monotonic()
        for entry in entries:
            self._to(entry.to).channel.remember(entry)
            self._gathering.sent(entry.to, now)
        self._has_news.set()

    async def run(self) -> None:
        """Forward until cancelled. Raises BrokerRefused, and WrongLayout when shards were moved meanwhile."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for each in self._channels.values():
                    tasks.create_task(each.run())
                tasks.create_task(self._trim_forever(tasks))
                await self._rounds()
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        finally:
            self._tasks = None

    async def flush_until_certain(self) -> None:
        """Wait until all that lies in the outboxes is applied, certain to stay so, and removed. `run` must run."""
        n_rounds = self._n_rounds + 1  # one may be under way, and older
        while self._n_rounds <= n_rounds or not all(each.is_done for each in self._channels.values()):
            if self._n_rounds <= n_rounds:
                self._gathering.again()
                self._gathering.look_at_everything()
                self._has_news.set()
            await asyncio.sleep(_POLL_SECONDS)

    async def close(self) -> None:
        """Close its connections, but not those that it shares."""
        await self._outboxes.close()
        if self._owns_links:
            await self.links.close()

    @property
    def in_transit(self) -> int:
        """How many messages lie in the outboxes and are not yet applied, as far as known."""
        return sum(each.channel.in_transit for each in self._channels.values())

    @property
    def is_clogged(self) -> bool:
        """Whether so much is in transit to some shard, which does not answer, that no more may be settled for it."""
        return any(each.channel.is_clogged for each in self._channels.values())

    @property
    def lost(self) -> Mapping[int, int]:
        """How many messages each shard has forgotten though it was certain to have them, found by this forwarder."""
        return {to: each.n_lost for to, each in self._channels.items() if each.n_lost}

    def outstanding(self, to: int, edge: str) -> int:
        """How many messages an edge of another shard held when something was last applied there."""
        each = self._channels.get(to)
        return each.outstanding.get(edge, 0) if each else 0

    # Rounds

    async def _rounds(self) -> None:
        while True:
            now = self._world.monotonic()
            round_in, sweep_in = self._gathering.round_due_in(now), self._gathering.sweep_due_in(now)
            if round_in is not None and round_in <= 0:
                await self._retried(self._confirm)
            elif sweep_in <= 0:
                await self._retried(self._sweep)
            else:
                await self._wait(sweep_in if round_in is None else min(round_in, sweep_in))

    async def _wait(self, seconds: float) -> None:
        self._has_news.clear()
        waiting = [asyncio.ensure_future(self._has_news.wait()), asyncio.ensure_future(self._world.pause(seconds))]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _retried(self, look: Callable[[], Awaitable[None]]) -> None:
        what = f"forwarding from shard {self._shard}"
        await retry_until_available(self._world, partial(self._attempt, look), what=what)

    async def _attempt(self, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
        except BrokerUnavailable:
            self._gathering.look_at_everything()
            raise

    async def _confirm(self) -> None:
        """Have the source confirm its heads, and hand them to the channels."""
        self._gathering.begin_round(self._world.monotonic())
        heads = await self._outboxes.confirmed_heads()
        if heads is None:
            await self._note_unconfirmed()
            return
        self._unconfirmed_since, self._has_warned = None, False
        self._n_rounds += 1
        self._hand_out(heads)

    async def _sweep(self) -> None:
        """Look for what other workers have left, and what a failover has brought back."""
        self._gathering.begin_sweep(self._world.monotonic())
        heads = await self._outboxes.heads()
        if heads != {to: each.channel.head for to, each in self._channels.items() if each.channel.head != BEGINNING}:
            await self._confirm()
        for each in self._channels.values():
            each.wake()

    def _hand_out(self, heads: Mapping[int, Mark]) -> None:
        for to in self._channels.keys() - heads.keys():
            self._channels[to].channel.confirmed(BEGINNING)
        for to, head in heads.items():
            each = self._to(to)
            each.channel.confirmed(head)
            if each.channel.remembers:  # what this forwarder knows nothing of is another one's, or found by a sweep
                each.wake()

    async def _note_unconfirmed(self) -> None:
        now = self._world.monotonic()
        since = self._unconfirmed_since = self._unconfirmed_since or now
        if now - since > _PATIENCE_SECONDS and not self._has_warned:
            self._has_warned = True
            log.warning(
                "shard %d passes nothing on: for %d s %s has confirmed its outboxes. See: flowq doctor %s",
                *(self._shard, now - since, self._outboxes.missing, self._brokers[0].keys.pipeline),
            )
        await asyncio.sleep(_LOOK_SECONDS if now > since else 0)
        self._gathering.again()

    # Removal

    async def _trim_forever(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            by_link = defaultdict[NodeLink, list[ForwardingTo]](list)
            for each in self._channels.values():
                if (link := each.link_to_look_over()) is not None:
                    by_link[link].append(each)
            for link, channels in by_link.items():  # in this order: that of a set would differ from run to run
                if link not in self._looking:  # one that does not answer delays no other
                    tasks.create_task(self._look(link, channels))
            await self._trim()
            await self._world.pause(_LOOK_SECONDS)

    async def _look(self, link: NodeLink, channels: Sequence[ForwardingTo]) -> None:
        self._looking.add(link)
        try:
            await ForwardingTo.look_for_certainty(link, channels)
        finally:
            self._looking.discard(link)

    async def _trim(self) -> None:
        removable = {
            to: up_to for to, each in self._channels.items() if (up_to := each.retention.to_remove) is not None
        }
        if not removable:
            return
        with contextlib.suppress(BrokerUnavailable):  # the next look tries again
            await self._outboxes.trim(removable)
            for to, up_to in removable.items():
                self._channels[to].retention.removed = up_to

    def _to(self, to: int) -> ForwardingTo:
        each = self._channels.get(to)
        if each is None:
            each = self._channels[to] = ForwardingTo(
                self._brokers[to], self._shard, self.links, self._outboxes, self._on_outstanding
            )
            if self._tasks is not None:
                self._tasks.create_task(each.run())
        return each


async def flush(broker: Broker) -> None:
    """Have all that lies in the outboxes of a shard applied, certain to stay so, and removed."""
    forwarder = Forwarder(broker)
    running = asyncio.create_task(forwarder.run())
    flushing = asyncio.create_task(forwarder.flush_until_certain())
    try:
        done, _ = await asyncio.wait([running, flushing], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (running, flushing):
            task.cancel()
        await asyncio.wait([running, flushing])
        await forwarder.close()
