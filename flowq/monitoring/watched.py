"""What is monitored: the pipeline of one run, or every pipeline of a Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

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

_LOOK_FOR_PIPELINES_SECONDS = 30.0


class WatchedRun(Doctor):
    """The pipeline of `flowq run`, and the doctor of its worker processes: `pids()`."""

    def __init__(self, plan: Plan, broker: Broker, pids: Callable[[], Collection[int]]) -> None:
        super().__init__(broker, pids)
        self._plan = plan

    async def read(self) -> tuple[Sequence[Reading], Sequence[str]]:
        """Read the pipeline."""
        return await _read_all({self._plan.name: (self._broker, self._plan)})


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

    async def read(self) -> tuple[Sequence[Reading], Sequence[str]]:
        """Read every pipeline that has a recorded plan."""
        try:
            names = await self._pipelines()
        except BrokerError:
            return (), tuple(self._found)
        plans = await asyncio.gather(*(self._plan(name) for name in names))
        known = {name: plan for name, plan in zip(names, plans, strict=True) if plan is not None}
        readings, silent = await _read_all({n: (self._brokers[n], plan) for n, plan in known.items() if plan.edges})
        return readings, (*(name for name in names if name not in known), *silent)

    async def _pipelines(self) -> Collection[str]:
        now = asyncio.get_running_loop().time()
        if not self._names and (self._looked_at is None or now - self._looked_at > _LOOK_FOR_PIPELINES_SECONDS):
            self._found = sorted({*self._found, *await Discovery(self._scout).pipelines()})
            self._looked_at = now
        return self._found

    async def _plan(self, name: str) -> Plan | None:
        """The plan on record; None if the server of the pipeline does not answer."""
        if name not in self._brokers:
            keys = Keys(self._namespace, name)
            self._brokers[name] = Broker(dialer_beside(self._dialer, keys.tag, 0), keys)
        broker = self._brokers[name]
        try:
            n_shards = await read_layout(broker) or 1  # again each time: it begins with the first run
            return await Discovery(with_shards(broker, n_shards)).plan()
        except BrokerError:
            return None

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
        for broker in (self._scout, *self._brokers.values()):
            await close_shards(broker)


async def _read_all(pipelines: Mapping[str, tuple[Broker, Plan]]) -> tuple[Sequence[Reading], Sequence[str]]:
    found = await asyncio.gather(*(read(broker, plan) for broker, plan in pipelines.values()), return_exceptions=True)
    readings: list[Reading] = []
    unreachable: list[str] = []
    for name, reading in zip(pipelines, found, strict=True):
        if isinstance(reading, Reading):
            readings.append(reading)
        elif isinstance(reading, BrokerError):
            unreachable.append(name)
        else:
            raise reading
    return readings, unreachable
