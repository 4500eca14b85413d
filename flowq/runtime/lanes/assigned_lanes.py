"""The lanes of a process that serves some of several shards, and changes them when other workers come or go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Coroutine, Sequence
from typing import Any

from flowq.broker.records import TAKES_PART
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.node_links import NodeLinks
from flowq.broker.shards.outbox import Entry
from flowq.broker.workers import Workers
from flowq.errors import BrokerError, BrokerUnavailable
from flowq.runtime.housekeeping.jobs import Job
from flowq.runtime.housekeeping.lease import Lease
from flowq.runtime.identity import Identity
from flowq.runtime.lanes.assignment import assign
from flowq.runtime.lanes.gates import Gates
from flowq.runtime.lanes.lane import Lane, Workplace
from flowq.runtime.lanes.lanes import Lanes
from flowq.runtime.lanes.quarantine import Quarantine
from flowq.runtime.lanes.shard_lane import ShardLane
from flowq.runtime.lanes.stopping import sign_off
from flowq.runtime.stage.sharded_writing import ShardedWriting
from flowq.runtime.stage.writing import Writing

_LOOK_SECONDS = 1.0
_LONGEST_START_SECONDS = 2.0


class AssignedLanes(Lanes):
    """A lane for each shard that the process serves: those that `assign` gives it, or `fixed` ones; and `always` these.

    The process is also registered in shard 0, under the name `identity`, so that the others count it. While shard 0
    does not answer, it keeps the shards that it has.
    """

    name = "assignment"

    def __init__(
        self,
        place: Workplace,
        broker: Broker,
        identity: Identity,
        *,
        fixed: Collection[int] | None = None,
        always: Collection[int] = (),
    ) -> None:
        self._place = place
        self._broker = broker
        self._identity = identity
        self._fixed = fixed
        self._always = always
        self._gates = Gates()
        self._links = NodeLinks(broker.shards)
        self._lanes: dict[int, ShardLane] = {}
        self._beginning: dict[int, asyncio.Task[None]] = {}
        self._ending: dict[int, tuple[ShardLane, asyncio.Task[None]]] = {}
        self._hurry = asyncio.Event()
        self._is_stopping = False
        self._for_sources = ShardedWriting(
            place.plan, broker, self._sent_in_shard_0, is_clogged=self._is_clogged_in_shard_0
        )
        # Nothing is read under this name. With edges, a new group of one of them would end this registration too, along
        # with those of all workers that may have read from it, and others would take over all shards of this process.
        facts: dict[str, Any] = {**place.facts, TAKES_PART: fixed is None, "edges": []}
        self._lease = Lease(broker, identity, facts, silent_seconds=lambda: 0.0)

    @property
    def all(self) -> Sequence[Lane]:
        """As in `Lanes`."""
        return [*self._lanes.values(), *(lane for lane, _ in self._ending.values())]

    @property
    def for_sources(self) -> Writing:
        """As in `Lanes`."""
        return self._for_sources

    def _sent_in_shard_0(self, entries: Sequence[Entry]) -> None:
        if (lane := self._lanes.get(0)) is not None:  # while it begins, the entries wait in the outbox
            lane.forwarder.note(entries)

    def _is_clogged_in_shard_0(self) -> bool:
        lane = self._lanes.get(0)
        return lane is not None and lane.forwarder.is_clogged

    def jobs(self) -> Sequence[Job]:
        """As in `Lanes`."""
        return [self] if self._fixed is None else []

    # Start

    async def register(self) -> None:
        """As in `Lanes`."""
        await self._place.leases.keep(self._lease)

    async def start(self) -> None:
        """As in `Lanes`. A shard that does not answer holds up no other."""
        self._follow({*(await self._wanted() if self._fixed is None else self._fixed), *self._always})
        if self._beginning:
            await asyncio.wait(self._beginning.values(), timeout=_LONGEST_START_SECONDS)

    async def step(self) -> float:
        """Serve the shards that are this process's by now."""
        with contextlib.suppress(BrokerError):
            wanted = await self._wanted()
            if not self._is_stopping:
                self._follow({*wanted, *self._always})
        return _LOOK_SECONDS

    async def _wanted(self) -> Collection[int]:
        """The shards for this process, given those that live and run the same stages."""
        workers, own = Workers(self._broker), self._identity.worker
        alike = [
            name
            for name, facts in (await workers.registered()).items()
            if facts.get(TAKES_PART) and facts.get("stages") == self._place.facts["stages"]
        ]
        leases, dead = await workers.leases(alike), await workers.death_records()
        living = [name for name in alike if leases[name] is not None and name not in dead]
        shares = assign(living, len(self._broker.shards))
        return shares.get(own, self._lanes.keys())  # one that is not known at the moment keeps what it has

    def _follow(self, wanted: Collection[int]) -> None:
        for shard in sorted(self._lanes.keys() - wanted):
            if shard not in self._beginning:
                lane = self._lanes.pop(shard)
                self._ending[shard] = lane, self._task(self._end(lane), f"end of shard {shard}")
        for shard in sorted(set(wanted).difference(self._lanes, self._ending)):
            lane = self._lanes[shard] = self._new_lane(shard)
            self._beginning[shard] = self._task(self._begin(lane), f"begin of shard {shard}")

    def _new_lane(self, shard: int) -> ShardLane:
        for_sources = self._for_sources if shard == 0 else None
        return ShardLane(self._place, self._broker.shards[shard], self._gates, self._links, for_sources)

    def _task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._on_end)
        return task

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._place.on_failure(error)

    async def _begin(self, lane: ShardLane) -> None:
        try:
            await lane.register()
            await self._place.pauses.add(lane.runners)
            await lane.start()
        finally:
            del self._beginning[lane.broker.shard]

    async def _end(self, lane: ShardLane) -> None:
        """Hand back what this process holds of a shard that others serve now."""
        try:
            await lane.stop_stages(self._hurry)
            self._place.pauses.remove(lane.runners)
            await lane.end_jobs()
            await lane.sign_off()
        finally:
            del self._ending[lane.broker.shard]

    async def quarantine(self) -> None:
        """As in `Lanes`. A shard that does not answer is visited again when the others have been."""
        for shard in range(len(self._broker.shards)):
            lane = self._lanes[shard] = self._new_lane(shard)
            self._beginning[shard] = self._task(self._begin_quarantine(lane), f"begin of shard {shard}")
        await asyncio.wait(self._beginning.values(), timeout=_LONGEST_START_SECONDS)
        quarantines: dict[int, Quarantine] = {}
        while True:
            is_silent, is_any_left = bool(self._beginning), False
            for shard in self._lanes.keys() - self._beginning.keys():
                visited = quarantines.get(shard) or quarantines.setdefault(shard, self._lanes[shard].quarantine())
                try:
                    is_any_left |= await visited.visit_all()
                except BrokerUnavailable:
                    is_silent = True
            if not is_any_left and not is_silent:
                break
            if not is_any_left:
                await self._broker.world.pause(_LOOK_SECONDS)
        await asyncio.gather(*(each.close() for each in quarantines.values()))

    async def _begin_quarantine(self, lane: ShardLane) -> None:
        try:
            await lane.register()
            lane.forward()
        finally:
            del self._beginning[lane.broker.shard]

    # Stop

    async def stop_stages(self, hurry: asyncio.Event) -> None:
        """As in `Lanes`."""
        self._is_stopping = True
        beginning = list(self._beginning.values())
        for task in beginning:
            task.cancel()
        await asyncio.gather(*beginning, return_exceptions=True)
        hurrying = asyncio.create_task(self._pass_on(hurry))
        ending = [task for _, task in self._ending.values()]
        await asyncio.gather(*(lane.stop_stages(hurry) for lane in self._lanes.values()), *ending)
        hurrying.cancel()

    async def _pass_on(self, hurry: asyncio.Event) -> None:
        await hurry.wait()
        self._hurry.set()

    async def end_jobs(self) -> None:
        """As in `Lanes`."""
        await super().end_jobs()
        self._place.leases.drop(self._lease)
        await self._links.close()

    async def sign_off(self) -> None:
        """As in `Lanes`."""
        await super().sign_off()
        edges = [edge.name for edge in self._place.plan.edges]
        await sign_off(self._broker, sorted(self._identity.names), edges)
