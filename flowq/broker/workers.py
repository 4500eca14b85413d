"""The workers of a pipeline: registration, leases and heartbeats, death records, and taking over from the dead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from flowq.broker import scripts
from flowq.broker.client.retrying import again_if_lost
from flowq.broker.client.rounds import Rounds
from flowq.broker.keys import GROUP
from flowq.broker.records import Reclaimed, deliveries_of, pairs, worker_facts
from flowq.broker.redis_streams import Broker
from flowq.delivery.dead_letter import CRASHES_BEFORE_BURIAL, crash_info
from flowq.delivery.edge import Edge
from flowq.delivery.message import Delivery
from flowq.delivery.stored import as_stored, name_in, seconds_in, text_in
from flowq.errors import ReplyCutOff


class Workers:
    """All workers of one pipeline."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def register(self, worker: str, info: Mapping[str, Any], *, lease_ms: int, heartbeat: str) -> None:
        """Enter a worker under a name that has not been used before."""
        keys = [self._broker.keys.workers, self._broker.keys.lease(worker)]
        await self._broker.script(
            scripts.REGISTER,
            keys,
            worker,
            lease_ms,
            heartbeat,
            orjson.dumps({"worker": worker, "packs_seen": True, **info}),
        )

    async def renew(self, worker: str, *, lease_ms: int, heartbeat: str) -> bool:
        """Keep a lease alive. False: the worker's messages have been reclaimed and it needs a new name."""
        keys = [self._broker.keys.workers, self._broker.keys.lease(worker)]
        return bool(await self._broker.script(scripts.REGISTER, keys, worker, lease_ms, heartbeat, b""))

    async def retire(self, worker: str, edges: Sequence[str], *, reason: str = "stopped") -> int:
        """Sign a worker off. Returns the number of edges on which it still has pending messages."""
        keys = self._broker.keys
        streams = [keys.edge(edge) for edge in edges]
        names = [keys.workers, keys.death_records, as_stored(keys.lease(worker)), *streams]
        left: int = await self._broker.script(scripts.RETIRE, names, GROUP, as_stored(worker), reason)
        return left

    async def record_death(self, worker: str, reason: str) -> None:
        """Record that a worker's process is gone, so that no worker waits for its lease to end."""
        keys = self._broker.keys
        names = [keys.death_records, as_stored(keys.lease(worker)), keys.workers, keys.deaths]
        await self._broker.script(scripts.RECORD_DEATH, names, as_stored(worker), reason)

    async def forget(self, workers: Sequence[str]) -> None:
        """Remove workers that are gone and have left nothing behind."""
        if workers:
            keys = self._broker.keys
            hashes = [keys.workers, keys.death_records, keys.suspects]
            await self._broker.script(scripts.FORGET_WORKERS, [*hashes, keys.deaths], *map(as_stored, workers))

    async def registered(self) -> dict[str, Mapping[str, Any]]:
        """All registered workers by name, with the facts they registered."""
        reply = await self._broker.answer(b"HGETALL", self._broker.keys.workers)
        return {name_in(name): worker_facts(info) for name, info in pairs(reply)}

    async def death_records(self) -> dict[str, str]:
        """The workers known to be gone, and how they went."""
        reply = await self._broker.answer(b"HGETALL", self._broker.keys.death_records)
        return {name_in(name): text_in(how) for name, how in pairs(reply)}

    async def consumers_of(self, edges: Sequence[str]) -> dict[str, set[str]]:
        """The consumer names that Redis knows on each edge."""
        commands = [(b"XINFO", b"CONSUMERS", self._broker.keys.edge(edge), GROUP) for edge in edges]
        replies = await self._broker.ask(commands)
        return {
            edge: set() if isinstance(reply, Exception) else {name_in(dict(pairs(row))[b"name"]) for row in reply}
            for edge, reply in zip(edges, replies, strict=True)
        }

    async def leases(self, workers: Sequence[str]) -> dict[str, str | None]:
        """The heartbeat of each worker's lease, None where it has none."""
        if not workers:
            return {}
        names = [as_stored(self._broker.keys.lease(worker)) for worker in workers]
        reply = await self._broker.answer(b"MGET", *names)
        return {worker: heartbeat and text_in(heartbeat) for worker, heartbeat in zip(workers, reply, strict=True)}

    def leases_reading(self, workers: Sequence[str]) -> Rounds[dict[str, tuple[str, int]]]:
        """The heartbeat of each worker that has a lease, and the ms that the lease lives if it is not renewed."""
        if not workers:
            return {}
        names = [as_stored(self._broker.keys.lease(worker)) for worker in workers]
        heartbeats, *lives = yield [(b"MGET", *names), *((b"PTTL", name) for name in names)]
        found = zip(workers, heartbeats, lives, strict=True)
        return {worker: (text_in(heartbeat), max(0, life)) for worker, heartbeat, life in found if heartbeat}

    async def reclaim(
        self, edge: str, victim: str, worker: str, *, limit: int, heartbeat: str | None = None, crashed: str = ""
    ) -> Reclaimed | None:
        """Take over what a dead worker left on an edge. None: its lease lives, or this worker is not registered.

        `crashed` says how it crashed, if it did: the crash is then counted for its messages, which die at the third.
        """
        epoch, keys, stage = self._broker.epoch, self._broker.keys, Edge.parse(edge).target
        names = [
            keys.workers, as_stored(keys.lease(victim)), keys.edge(edge), keys.suspects, keys.dead(stage), keys.stats,
            keys.answered(f"{self._broker.name}:reclaim:{edge}"), keys.deaths,
        ]  # fmt: skip
        limit_of_crashes = CRASHES_BEFORE_BURIAL if crashed else 0
        letter = orjson.dumps(crash_info(as_stored(victim), crashed, self._broker.run_id))
        limit = self._broker.paging.bound(limit)
        arguments = GROUP, as_stored(victim), worker, limit, heartbeat or "", edge, stage, limit_of_crashes, letter
        try:
            reply = await again_if_lost(
                partial(self._broker.script, scripts.RECLAIM, names, *arguments, self._broker.new_token())
            )
        except ReplyCutOff:  # what was claimed is found among what is pending for this worker
            self._broker.paging.cut_off(limit)
            raise
        if reply[0] == 0:
            return None
        entries: Sequence[Any] = reply[1] if reply[0] == 1 else ()
        return Reclaimed(deliveries_of(edge, entries, worker, epoch), finished=reply[0] == 2)

    async def clear_suspicion(self, delivery: Delivery) -> None:
        """Note that a message which was running in a crash has run alone without another one."""
        suspect = f"{delivery.edge}|{delivery.entry_id.decode()}"
        await self._broker.answer(b"HDEL", self._broker.keys.suspects, suspect)

    async def first_left_by(self, victim: str, edge: str, worker: str) -> Delivery | None:
        """What `worker` would receive first if it reclaimed now. None: nothing, or nothing that still exists."""
        broker = self._broker
        stream = broker.keys.edge(edge)
        [pending] = await broker.ask([(b"XPENDING", stream, GROUP, b"-", b"+", 1, as_stored(victim))])
        if isinstance(pending, Exception) or not pending:
            return None
        entry_id = pending[0][0]
        [entries] = await broker.ask([(b"XRANGE", stream, entry_id, entry_id)])
        if isinstance(entries, Exception) or not entries:
            return None
        return deliveries_of(edge, entries, worker, broker.epoch)[0]

    async def take_source(self, source: str, worker: str) -> str:
        """Have a worker run a source, unless another runs it; returns the one that runs it now.

        From then on, what any other worker publishes for it is refused: it may only have seemed gone.
        """
        keys, found = self._broker.keys, ""
        while True:
            reply = await self._broker.script(
                scripts.CLAIM_SOURCE, [keys.run, as_stored(keys.lease(found))], source, as_stored(found), worker
            )
            runner = name_in(reply)
            if runner in (worker, found):
                return runner
            found = runner


def heartbeat(number: int, silent_seconds: float) -> str:
    """The value that a worker writes into its lease.

    >>> heartbeat(7, 0.04), heartbeat(8, 61.5)
    ('7', '8 61.5')
    """
    silent = round(silent_seconds, 1)
    return f"{number} {silent}" if silent > 0 else str(number)


def silent_seconds_in(heartbeat: str) -> float:
    """For how many seconds the worker had tried to read without success when it wrote the heartbeat.

    >>> silent_seconds_in("7"), silent_seconds_in("8 61.5")
    (0.0, 61.5)
    """
    return seconds_in(heartbeat.partition(" ")[2])
