"""Registers a process as a worker, and renews its leases."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers, heartbeat
from flowq.errors import BrokerError
from flowq.runtime.housekeeping.jobs import restart_on_error
from flowq.runtime.identity import Identity
from flowq.runtime.waiting import pause_until
from flowq.world import Background, World

log = logging.getLogger("flowq.runtime")

_RENEWALS_PER_LEASE = 5
_TICK_SECONDS = 1.0
_LOOP_MAY_BLOCK_SECONDS = 3600.0
_DAY_SECONDS = 86_400.0


def renew_every(lease_seconds: float) -> float:
    """Seconds between two renewals."""
    return lease_seconds / _RENEWALS_PER_LEASE


def _time_to_live_ms(lease_seconds: float) -> int:
    """How long Redis keeps a lease: shorter, because others look twice before they take a worker for dead."""
    return round(lease_seconds * 1000 * (1 - 1.5 / _RENEWALS_PER_LEASE))


class Lease:
    """The name of a process in one shard, registered there, and its lease.

    A process whose messages have been reclaimed gets a new name. Each heartbeat tells how long the process has been
    silent there: the `silent_seconds` of its readers, or the time that its loop has been blocked.
    """

    def __init__(
        self, broker: Broker, identity: Identity, facts: Mapping[str, Any], *, silent_seconds: Callable[[], float]
    ) -> None:
        self.broker = broker
        self.identity = identity
        self._facts = facts
        self._silent_seconds = silent_seconds
        self._heartbeats = itertools.count(1)
        self._started_ms = 0  # by the clock of Redis, when it first registered

    async def register(self, broker: Broker, *, lease_ms: int, blocked_seconds: float = 0.0) -> None:
        """Register under a new name."""
        worker = self.identity.worker
        self._started_ms = self._started_ms or await broker.now_ms()
        formerly = sorted(self.identity.names - {worker})
        facts = {**self._facts, "started_ms": self._started_ms, "formerly": formerly}
        await Workers(broker).register(worker, facts, lease_ms=lease_ms, heartbeat=self._heartbeat(blocked_seconds))

    async def renew(self, broker: Broker, *, lease_ms: int, blocked_seconds: float) -> None:
        """Keep the lease, or continue under another name."""
        old = self.identity.worker
        if not await Workers(broker).renew(old, lease_ms=lease_ms, heartbeat=self._heartbeat(blocked_seconds)):
            self.identity.renew()
            await self.register(broker, lease_ms=lease_ms, blocked_seconds=blocked_seconds)
            log.warning("%s was presumed dead, continuing as %s", old, self.identity.worker)

    def _heartbeat(self, blocked_seconds: float) -> str:
        return heartbeat(next(self._heartbeats), max(self._silent_seconds(), blocked_seconds))


class LeaseKeeper:
    """Renews the leases of a process in the background, with connections of its own: in a thread with its own loop.

    This way a handler that blocks the main loop for minutes keeps its messages. Only after an hour without a step of
    this job, which runs in the main loop, are the leases left to expire.
    """

    name = "loop watch"

    def __init__(self, world: World, lease_seconds: float) -> None:
        self._world = world
        self._lease_seconds = lease_seconds
        self._leases: tuple[Lease, ...] = ()  # replaced as a whole: the thread reads it
        self._moved_at = world.monotonic()
        self._renewing: Background | None = None

    async def keep(self, lease: Lease) -> None:
        """Register in a shard, then keep the lease there until stopped."""
        if lease.broker.dialer.is_private:  # no other process can reclaim anything
            await lease.register(lease.broker, lease_ms=round(_DAY_SECONDS * 1000))
            return
        lease_ms = _time_to_live_ms(self._lease_seconds)
        await retry_until_available(
            self._world, lambda: lease.register(lease.broker, lease_ms=lease_ms), what="registering this worker"
        )
        self._leases += (lease,)
        if self._renewing is None:
            self._renewing = self._world.in_background(self._renew_until, name="flowq-lease")

    def drop(self, lease: Lease) -> None:
        """Renew this one no more."""
        self._leases = tuple(each for each in self._leases if each is not lease)

    async def step(self) -> float:
        """Note that the main loop is moving."""
        self._moved_at = self._world.monotonic()
        return _TICK_SECONDS

    async def stop(self) -> None:
        """Stop renewing leases, if there ever was one."""
        if self._renewing is not None:
            await self._renewing.stop()

    async def _renew_until(self, stopped: asyncio.Event) -> None:
        await restart_on_error(self._world, partial(self._keep, stopped), "lease")

    async def _keep(self, stopped: asyncio.Event) -> None:
        brokers: dict[Lease, Broker] = {}
        pause = renew_every(self._lease_seconds)
        try:
            while not await pause_until(stopped, pause, self._world):
                if self._world.monotonic() - self._moved_at > _LOOP_MAY_BLOCK_SECONDS:
                    continue
                pause = renew_every(self._lease_seconds) if await self._renew_all(brokers) else self._soon_seconds
        finally:
            for broker in brokers.values():
                await broker.close()

    @property
    def _soon_seconds(self) -> float:
        return min(1.0, renew_every(self._lease_seconds))

    async def _renew_all(self, brokers: dict[Lease, Broker]) -> bool:
        """Renew them side by side: a shard that does not answer delays no other. Returns whether all have answered."""
        leases = self._leases
        for dropped in [lease for lease in brokers if lease not in leases]:
            await brokers.pop(dropped).close()
        for lease in leases:
            if lease not in brokers:
                brokers[lease] = Broker(lease.broker.dialer, lease.broker.keys, world=self._world)
        return all(await asyncio.gather(*(self._renew(lease, brokers[lease]) for lease in leases)))

    async def _renew(self, lease: Lease, broker: Broker) -> bool:
        blocked_seconds = self._world.monotonic() - self._moved_at - _TICK_SECONDS
        lease_ms = _time_to_live_ms(self._lease_seconds)
        try:
            await lease.renew(broker, lease_ms=lease_ms, blocked_seconds=blocked_seconds)
        except BrokerError:
            return False
        return True
