"""Takes over the messages of dead workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers
from flowq.errors import BrokerError
from flowq.runtime.death_records import crashed
from flowq.runtime.housekeeping.lease import renew_every
from flowq.runtime.identity import Identity
from flowq.runtime.stage.consumer import Consumer

log = logging.getLogger("flowq.runtime")

_DEATH_POLL_SECONDS = 1.0
_MOST_PER_CALL = 200


class Reclaimer:
    """Finds dead workers and reclaims what they left on the edges of this process.

    If there is a supervisor (`supervised`), its quarantine runs what crashed workers left. A worker with another kind
    of death record is dead at once. Any other must have no lease, or the same heartbeat for a whole lease, in two looks
    that are further apart than two renewals on this process's own clock: a step of the server's clock ends all leases
    together, and live workers renew theirs in between.
    """

    name = "reclaimer"

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
        self._workers = Workers(broker)
        self._supervised = supervised
        self._now = broker.world.monotonic
        self._all_edges = all_edges
        self._consumers = consumers
        self._identity = identity
        self._lease_seconds = lease_seconds
        self._looks: dict[str, tuple[str | None, float]] = {}  # the last heartbeat of each, and since when
        self._survey_every = renew_every(lease_seconds) * 1.25
        self._surveyed_at = -self._survey_every

    async def step(self) -> float:
        try:
            dead = await self._workers.death_records()
            now = self._now()
            if dead or now - self._surveyed_at >= self._survey_every:
                self._surveyed_at = now
                await self._survey(dead, now)
        except BrokerError:
            self._looks.clear()
        return min(_DEATH_POLL_SECONDS, self._survey_every)

    async def _survey(self, dead: Mapping[str, str], now: float) -> None:
        consumers = await self._workers.consumers_of(self._all_edges)
        registered = await self._workers.registered()
        known = set(dead).union(registered, *consumers.values())
        in_quarantine = set(crashed(dead)) if self._supervised else set[str]()
        others = sorted(known - self._identity.names - in_quarantine)
        leases = await self._workers.leases(others)
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
        left_nothing = {*gone, *in_quarantine}.difference(*consumers.values())
        await self._workers.forget(sorted(left_nothing))
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
            taken = await self._workers.reclaim(
                edge, victim, self._identity.worker, limit=min(room, _MOST_PER_CALL), heartbeat=heartbeat, crashed=how
            )
            if taken is None:
                return
            if taken.deliveries:
                n = len(taken.deliveries)
                log.warning("reclaimed %d message%s of %s on %s", n, "s" * (n != 1), victim, edge)
                await consumer.take(taken.deliveries)
            if taken.finished:
                return
            await asyncio.sleep(0)
