"""Records the deaths of workers in every shard: in each as soon as it answers, and none of them waits for another."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection
from functools import partial

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.redis_streams import Broker
from flowq.runtime.death_records import Death, record_death_of_child

_PATIENCE_SECONDS = 1.0


class DeathRecorder:
    """The deaths that some shard has not heard of yet.

    `on_recorded` is called when a shard has learned of the death of a worker that was registered there, `on_end` with
    each task that records a death in a shard.
    """

    def __init__(
        self, broker: Broker, *, on_recorded: Callable[[], None], on_end: Callable[[asyncio.Task[bool]], None]
    ) -> None:
        self._shards = broker.shards
        self._world = broker.world
        self._on_recorded = on_recorded
        self._on_end = on_end
        self._turns = defaultdict[int, asyncio.Lock](asyncio.Lock)
        self._pending: set[asyncio.Task[bool]] = set()

    async def record(self, death: Death) -> bool:
        """Record a death in every shard. Returns whether the worker had signed on, as far as is known.

        One shard at least has answered then. Those that have not are told when they do.
        """
        tasks = {self._begin(shard, death) for shard in self._shards}
        waiting: Collection[asyncio.Task[bool]] = tasks
        while waiting:
            patience_seconds = _PATIENCE_SECONDS if len(waiting) < len(tasks) else None
            done, waiting = await asyncio.wait(waiting, timeout=patience_seconds, return_when=asyncio.FIRST_COMPLETED)
            if not done or any(task.result() for task in done):
                return bool(done)
        return False

    def _begin(self, shard: Broker, death: Death) -> asyncio.Task[bool]:
        task = asyncio.create_task(self._record_in(shard, death))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        task.add_done_callback(self._on_end)
        return task

    async def _record_in(self, shard: Broker, death: Death) -> bool:
        async with self._turns[shard.shard]:  # however many have died, a shard that is away is asked about one
            work = partial(record_death_of_child, shard, death)
            had_signed_on = await retry_until_available(self._world, work, what="recording a death")
        if had_signed_on:
            self._on_recorded()
        return had_signed_on

    async def close(self, *, within_seconds: float) -> None:
        """Give the shards that answer this long to learn of the last deaths. In all others leases expire."""
        if self._pending:
            await asyncio.wait(self._pending, timeout=within_seconds)
        for task in self._pending:
            task.cancel()
