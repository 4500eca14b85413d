"""The housekeepers of a process: they keep its lease, bring back what is due, and take over from the dead."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from flowq.broker.client.connection import Dialer
from flowq.broker.client.retrying import retry_until_available
from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers, heartbeat
from flowq.errors import BrokerError, BrokerRefused
from flowq.runtime.death_records import crashed
from flowq.runtime.identity import Identity
from flowq.runtime.stage.consumer import Consumer

log = logging.getLogger("flowq.runtime")

_RENEWALS_PER_LEASE = 5
_TICK_SECONDS = 1.0
_LOOP_MAY_BLOCK_SECONDS = 3600.0
_LONGEST_PROMOTE_PAUSE_SECONDS = 1.0
_DEATH_POLL_SECONDS = 1.0
_LONGEST_JOIN_SECONDS = 0.5  # it may be waiting for a Redis that does not answer
_MOST_RECLAIMED = 200
_FIRST_STUMBLE_PAUSE_SECONDS, _LONGEST_STUMBLE_PAUSE_SECONDS = 0.5, 10.0


def renew_every(lease_seconds: float) -> float:
    """Seconds between two renewals."""
    return lease_seconds / _RENEWALS_PER_LEASE


def time_to_live_ms(lease_seconds: float) -> int:
    """How long Redis keeps a lease: short enough that a second look after its end still fits into `lease_seconds`."""
    return round(lease_seconds * 1000 * (1 - 1.5 / _RENEWALS_PER_LEASE))


async def kept_going(work: Callable[[], Awaitable[None]], name: str) -> None:
    """See work done until it returns: what it stumbles over is told, and it begins again after a pause.

    Without its housekeepers a process would look alive, and leave undone what nobody else does. BrokerRefused passes.
    """
    pause_seconds, is_first = _FIRST_STUMBLE_PAUSE_SECONDS, True
    while True:
        try:
            await work()
        except BrokerRefused:
            raise
        except Exception as error:
            log.warning("%s failed, and begins again in %g s: %r", name, pause_seconds, error, exc_info=is_first)
        else:
            return
        await asyncio.sleep(pause_seconds)
        pause_seconds, is_first = min(_LONGEST_STUMBLE_PAUSE_SECONDS, pause_seconds * 2), False


class LeaseKeeper:
    """Renews the lease of a process from a thread with its own loop and connection.

    A handler that blocks the main loop for minutes keeps its messages this way; only when that loop has not moved for
    an hour is it taken for dead. A process whose messages have been reclaimed takes a new name here. Each renewal says
    for how long this process has been silent: the `silent_seconds` of its readers, or that its loop has not moved.
    """

    def __init__(
        self,
        dialer: Dialer,
        keys: Keys,
        identity: Identity,
        info: Mapping[str, Any],
        lease_seconds: float,
        *,
        silent_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._dialer = dialer
        self._keys = keys
        self._identity = identity
        self._info = info
        self._lease_seconds = lease_seconds
        self._silent_seconds = silent_seconds
        self._ticked_at = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()  # of the thread's loop
        self._thread = threading.Thread(target=self._run, name="flowq-lease", daemon=True)
        self._heartbeats = itertools.count(1)

    async def start(self, broker: Broker) -> None:
        """Register, then keep the lease until stopped."""
        await retry_until_available(lambda: self._register(broker), what="registering this worker")
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def tick(self) -> None:
        """Called by the main loop: it is moving."""
        self._ticked_at = time.monotonic()

    async def stop(self) -> None:
        """Let the lease go, if it was ever taken."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)
            await asyncio.to_thread(self._thread.join, _LONGEST_JOIN_SECONDS)

    async def _register(self, broker: Broker) -> None:
        ttl_ms, worker = time_to_live_ms(self._lease_seconds), self._identity.worker
        facts = {**self._info, "formerly": sorted(self._identity.names - {worker})}
        await Workers(broker).register(worker, facts, lease_ms=ttl_ms, heartbeat=self._heartbeat())

    def _heartbeat(self) -> str:
        stuck_seconds = time.monotonic() - self._ticked_at - _TICK_SECONDS
        return heartbeat(next(self._heartbeats), max(self._silent_seconds(), stuck_seconds))

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(kept_going(self._keep, "the keeper of the lease"))

    async def _keep(self) -> None:
        broker = Broker(self._dialer, self._keys)
        pause = renew_every(self._lease_seconds)
        while not await _is_set_within(self._stopped, pause):
            if time.monotonic() - self._ticked_at > _LOOP_MAY_BLOCK_SECONDS:
                continue
            try:
                ttl_ms = time_to_live_ms(self._lease_seconds)
                if not await Workers(broker).renew(self._identity.worker, lease_ms=ttl_ms, heartbeat=self._heartbeat()):
                    old = self._identity.worker
                    self._identity.renew()
                    await self._register(broker)
                    log.warning("%s was taken for dead; going on as %s", old, self._identity.worker)
                pause = renew_every(self._lease_seconds)
            except BrokerError:
                pause = min(1.0, renew_every(self._lease_seconds))
        await broker.close()


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


class Promoter:
    """Moves delayed messages back to their edges when they are due."""

    def __init__(self, broker: Broker, edges: Sequence[str]) -> None:
        self._broker = broker
        self._edges = edges
        self.delayed = asyncio.Event()  # set when this process has delayed something: it may be due before the rest

    async def run(self) -> None:
        while True:
            self.delayed.clear()
            moved, next_ms = await retry_until_available(self._promote, what="bringing back delayed messages")
            if moved >= 1000:
                continue
            pause = _LONGEST_PROMOTE_PAUSE_SECONDS if next_ms is None else next_ms / 1000
            try:
                async with asyncio.timeout(min(_LONGEST_PROMOTE_PAUSE_SECONDS, pause + 0.001)):
                    await self.delayed.wait()
                    await asyncio.sleep(0.005)  # others are being delayed as well: look once for all of them
            except TimeoutError:
                pass

    async def _promote(self) -> tuple[int, int | None]:
        return await Edges(self._broker).promote(self._edges)


class Reclaimer:
    """Finds workers that are gone and takes over what they left on the edges of this process.

    What a crashed worker was at is left to the quarantine, if there is a supervisor to run one. A worker with another
    death record is gone at once. Any other must have no lease, or the same heartbeat for a whole lease, in two looks
    that are further apart than two renewals on this process's own clock: a step of the server's clock ends all leases
    together, and the living renew theirs in between.
    """

    def __init__(
        self,
        broker: Broker,
        consumers: Sequence[Consumer],
        identity: Identity,
        *,
        all_edges: Sequence[str],
        lease_seconds: float,
        supervised: bool,
    ) -> None:
        self._broker = broker
        self._supervised = supervised
        self._all_edges = all_edges
        self._consumers = consumers
        self._identity = identity
        self._lease_seconds = lease_seconds
        self._looks: dict[str, tuple[str | None, float]] = {}

    async def run(self) -> None:
        survey_every = renew_every(self._lease_seconds) * 1.25
        surveyed_at = -survey_every
        while True:
            try:
                dead = await Workers(self._broker).death_records()
                now = time.monotonic()
                if dead or now - surveyed_at >= survey_every:
                    surveyed_at = now
                    await self._survey(dead, now)
            except BrokerError:
                self._looks.clear()
            await asyncio.sleep(min(_DEATH_POLL_SECONDS, survey_every))

    async def _survey(self, dead: Mapping[str, str], now: float) -> None:
        consumers = await Workers(self._broker).consumers_of(self._all_edges)
        registered = await Workers(self._broker).registered()
        known = set(dead).union(registered, *consumers.values())
        in_quarantine = set(crashed(dead)) if self._supervised else set[str]()
        others = sorted(known - self._identity.names - in_quarantine)
        leases = await Workers(self._broker).leases(others)
        gone = [
            name
            for name in others
            if name in dead or self._is_silent(name, leases[name], registered.get(name, {}), now)
        ]
        for name in gone:
            for consumer in self._consumers:
                for edge in consumer.stage.in_edges:
                    if name in consumers[edge]:
                        await self._reclaim(consumer, edge, name, leases[name], crashed(dead).get(name, ""))
        left_nothing = [
            name for name in {*gone, *in_quarantine} if not any(name in names for names in consumers.values())
        ]
        await Workers(self._broker).forget(left_nothing)
        self._looks = {name: look for name, look in self._looks.items() if name in others}

    def _is_silent(self, name: str, heartbeat: str | None, facts: Mapping[str, Any], now: float) -> bool:
        seen = self._looks.get(name)
        if seen is None or seen[0] != heartbeat:
            self._looks[name] = (heartbeat, now)
            return False
        lease_seconds = facts.get("lease_seconds", self._lease_seconds)  # its own: another run may have another
        needed = lease_seconds if heartbeat is not None else renew_every(lease_seconds)
        return now - seen[1] >= needed

    async def _reclaim(self, consumer: Consumer, edge: str, victim: str, heartbeat: str | None, how: str) -> None:
        while (room := consumer.room) > 0:
            taken = await Workers(self._broker).reclaim(
                edge, victim, self._identity.worker, limit=min(room, _MOST_RECLAIMED), heartbeat=heartbeat, crashed=how
            )
            if taken is None:
                return
            if taken.deliveries:
                log.warning("reclaimed %d messages of %s on %s", len(taken.deliveries), victim, edge)
                await consumer.take(taken.deliveries)
            if taken.finished:
                return
            await asyncio.sleep(0)


class Ticker:
    """Tells somebody every second that the loop is moving."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick

    async def run(self) -> None:
        while True:
            self._tick()
            await asyncio.sleep(_TICK_SECONDS)
