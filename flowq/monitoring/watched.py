"""What is monitored: the pipeline of one run, or every pipeline of a Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from flowq.broker.client.connection import Dialer
from flowq.broker.client.many_servers import dialer_beside
from flowq.broker.inspection.discovery import Discovery
from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.broker.shards.layout import read_layout
from flowq.errors import BrokerError
from flowq.graph.compilation.plan import Plan
from flowq.monitoring.reading import Reading, read
from flowq.monitoring.worker_health import Doctor, Verdict

T = TypeVar("T")
_LOOK_FOR_PIPELINES_SECONDS = 30.0
_LONGEST_READING_SECONDS = 4.0  # a request for metrics has five


class WatchedRun(Doctor):
    """The pipeline of `flowq run`, and the doctor of its worker processes: `pids()`."""

    def __init__(self, plan: Plan, broker: Broker, pids: Callable[[], Collection[int]]) -> None:
        super().__init__(broker, pids)
        self._plan = plan

    async def read(self) -> tuple[Sequence[Reading], Sequence[str]]:
        """Read the pipeline."""
        reading = await _if_it_answers(read(self._broker, self._plan))
        return ([], [self._plan.name]) if reading is None else ([reading], [])


class WatchedRedis:
    """The pipelines that have ever run on a Redis, by their recorded plans: their code is not needed.

    Only those in `names`; if it is empty, all that are found. Redis is searched for new ones every half minute, in a
    Cluster each primary: a pipeline that was found stays even if its primary no longer answers.
    """

    def __init__(self, dialer: Dialer, namespace: str, names: Sequence[str] = ()) -> None:
        self._dialer = dialer
        self._namespace = namespace
        self._names = tuple(names)
        self._brokers: dict[str, Broker] = {}
        self._scout = Broker(dialer, Keys(namespace, "-"))
        self._found: Collection[str] = self._names
        self._looked_at: float | None = None
        self._search: asyncio.Task[None] | None = None

    async def read(self) -> tuple[Sequence[Reading], Sequence[str]]:
        """Read every pipeline that has a recorded plan."""
        try:
            names = await self._pipelines()
        except BrokerError:
            return (), tuple(self._found)
        found = await asyncio.gather(*(_if_it_answers(self._readings(name)) for name in names))
        silent = tuple(name for name, readings in zip(names, found, strict=True) if readings is None)
        return [reading for readings in found for reading in readings or ()], silent

    async def _pipelines(self) -> Collection[str]:
        now = asyncio.get_running_loop().time()
        is_due = self._looked_at is None or now - self._looked_at > _LOOK_FOR_PIPELINES_SECONDS
        if not self._names and is_due and (self._search is None or self._search.done()):
            self._search = asyncio.create_task(self._look_for_pipelines(now))
            self._search.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        if self._search is not None and self._looked_at is None:
            await asyncio.shield(self._search)
        return self._found

    async def _look_for_pipelines(self, now: float) -> None:
        """Not within a reading but beside it: a primary that hangs holds it up for longer than a request may take."""
        self._found = sorted({*self._found, *await Discovery(self._scout).pipelines()})
        self._looked_at = now

    async def _readings(self, name: str) -> Sequence[Reading]:
        """One, or none of a pipeline without a plan on record."""
        if name not in self._brokers:
            keys = Keys(self._namespace, name)
            self._brokers[name] = Broker(dialer_beside(self._dialer, keys.tag, 0), keys)
        broker = self._brokers[name]
        n_shards = await read_layout(broker) or 1  # again each time: it begins with the first run
        plan = await Discovery(with_shards(broker, n_shards)).plan()
        return [await read(broker, plan)] if plan.edges else ()

    async def alive(self) -> Verdict:
        """Always healthy: it answers."""
        return Verdict(True, {"status": "ok"})

    async def ready(self) -> Verdict:
        """Whether Redis replies."""
        try:
            await self._scout.ping()
        except BrokerError as error:
            return Verdict(False, {"status": "not ready", "faults": [error.message]})
        return Verdict(True, {"status": "ok"})

    async def close(self) -> None:
        """Close the connections."""
        if self._search is not None:
            self._search.cancel()
        for broker in (self._scout, *self._brokers.values()):
            await close_shards(broker)


async def _if_it_answers(reading: Awaitable[T]) -> T | None:
    """What is read; None if Redis does not answer, said before the request for metrics has timed out."""
    try:
        async with asyncio.timeout(_LONGEST_READING_SECONDS):
            return await reading
    except (BrokerError, TimeoutError):
        return None
