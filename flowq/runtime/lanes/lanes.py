"""The lanes of a process: which there are, and their start and stop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence

from flowq.broker.redis_streams import Broker
from flowq.runtime.housekeeping.jobs import Job
from flowq.runtime.identity import Identity
from flowq.runtime.lanes.lane import Lane, Workplace
from flowq.runtime.stage.writing import Writing


class Lanes(ABC):
    """All lanes of a process."""

    @property
    @abstractmethod
    def all(self) -> Sequence[Lane]:
        """Those that there are now."""

    @property
    @abstractmethod
    def for_sources(self) -> Writing:
        """What sources publish with: they are in shard 0."""

    @property
    def is_idle(self) -> bool:
        """Whether no handler of this process is running."""
        return all(lane.is_idle for lane in self.all)

    @abstractmethod
    def jobs(self) -> Sequence[Job]:
        """What keeps the lanes as they should be."""

    @abstractmethod
    async def register(self) -> None:
        """Register, before anything is read."""

    @abstractmethod
    async def start(self) -> None:
        """Start reading."""

    @abstractmethod
    async def quarantine(self) -> None:
        """Run what crashed workers have left in any shard, one message at a time, until nothing is left."""

    async def stop_stages(self, hurry: asyncio.Event) -> None:
        """Stop the stages of every lane in order."""
        await asyncio.gather(*(lane.stop_stages(hurry) for lane in self.all))

    async def end_jobs(self) -> None:
        """End everything else in them."""
        await asyncio.gather(*(lane.end_jobs() for lane in self.all))

    async def sign_off(self) -> None:
        """Sign off everywhere."""
        await asyncio.gather(*(lane.sign_off() for lane in self.all))


class OneLane(Lanes):
    """The lane of a pipeline that is not sharded. `identity` is the process's own."""

    def __init__(self, place: Workplace, broker: Broker, identity: Identity) -> None:
        self._place = place
        self._lane = Lane(place, broker, identity, Writing(place.plan, broker))

    @property
    def all(self) -> Sequence[Lane]:
        """As in `Lanes`."""
        return [self._lane]

    @property
    def for_sources(self) -> Writing:
        """As in `Lanes`."""
        return self._lane.writing

    def jobs(self) -> Sequence[Job]:
        """As in `Lanes`."""
        return ()

    async def register(self) -> None:
        """As in `Lanes`."""
        await self._lane.register()
        await self._place.pauses.add(self._lane.runners)

    async def start(self) -> None:
        """As in `Lanes`."""
        await self._lane.start()

    async def quarantine(self) -> None:
        """As in `Lanes`."""
        quarantine = self._lane.quarantine()
        while await quarantine.next_round():
            pass
        await quarantine.close()
