"""Registers a process as a worker and renews its lease."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.clock import Clock
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers, heartbeat
from flowq.errors import BrokerError
from flowq.runtime.housekeeping.jobs import restart_on_error
from flowq.runtime.identity import Identity
from flowq.runtime.waiting import pause_until
from flowq.world import Background

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


class LeaseKeeper:
    """Renews the lease of a process in the background, with its own connection: in a thread with its own loop.

    This way a handler that blocks the main loop for minutes keeps its messages. Only after an hour without a step of
    this job, which runs in the main loop, is the lease left to expire. A process whose messages have been reclaimed
    gets a new name here. Each heartbeat tells how long the process has been silent: the `silent_seconds` of its
    readers, or the time that its loop has been blocked.
    """

    name = "loop watch"

    def __init__(
        self,
        broker: Broker,
        identity: Identity,
        facts: Mapping[str, Any],
        lease_seconds: float,
        *,
        silent_seconds: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._identity = identity
        self._facts = facts
        self._lease_seconds = lease_seconds
        self._silent_seconds = silent_seconds
        self._world = broker.world
        self._moved_at = self._world.monotonic()
        self._renewing: Background | None = None
        self._heartbeats = itertools.count(1)
        self._started_ms = 0  # by the clock of Redis, when it first registered

    async def start(self) -> None:
        """Register, then keep the lease until stopped."""
        if self._broker.dialer.is_private:  # no other process can reclaim anything
            await self._register(self._broker, lease_ms=round(_DAY_SECONDS * 1000))
            return
        await retry_until_available(self._world, lambda: self._register(self._broker), what="registering this worker")
        self._renewing = self._world.in_background(self._renew_until, name="flowq-lease")

    async def step(self) -> float:
        """Note that the main loop is moving."""
        self._moved_at = self._world.monotonic()
        return _TICK_SECONDS

    async def stop(self) -> None:
        """Stop renewing the lease, if it was ever taken."""
        if self._renewing is not None:
            await self._renewing.stop()

    async def _register(self, broker: Broker, *, lease_ms: int = 0) -> None:
        worker = self._identity.worker
        self._started_ms = self._started_ms or await Clock(broker).now_ms()
        formerly = sorted(self._identity.names - {worker})
        facts = {**self._facts, "started_ms": self._started_ms, "formerly": formerly}
        lease_ms = lease_ms or _time_to_live_ms(self._lease_seconds)
        await Workers(broker).register(worker, facts, lease_ms=lease_ms, heartbeat=self._heartbeat())

    def _heartbeat(self) -> str:
        blocked_seconds = self._world.monotonic() - self._moved_at - _TICK_SECONDS
        return heartbeat(next(self._heartbeats), max(self._silent_seconds(), blocked_seconds))

    async def _renew_until(self, stopped: asyncio.Event) -> None:
        await restart_on_error(self._world, partial(self._keep, stopped), "lease")

    async def _keep(self, stopped: asyncio.Event) -> None:
        broker = Broker(self._broker.dialer, self._broker.keys, world=self._world)
        pause = renew_every(self._lease_seconds)
        try:
            while not await pause_until(stopped, pause, self._world):
                if self._world.monotonic() - self._moved_at > _LOOP_MAY_BLOCK_SECONDS:
                    continue
                try:
                    await self._renew(broker)
                    pause = renew_every(self._lease_seconds)
                except BrokerError:
                    pause = min(1.0, renew_every(self._lease_seconds))
        finally:
            await broker.close()

    async def _renew(self, broker: Broker) -> None:
        old, lease_ms = self._identity.worker, _time_to_live_ms(self._lease_seconds)
        if not await Workers(broker).renew(old, lease_ms=lease_ms, heartbeat=self._heartbeat()):
            self._identity.renew()
            await self._register(broker)
            log.warning("%s was presumed dead, continuing as %s", old, self._identity.worker)
