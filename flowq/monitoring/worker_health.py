"""Whether workers are healthy, according to their leases in Redis. Any process may ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowq.broker.redis_streams import Broker
from flowq.broker.shards.every_shard import VIEW_PATIENCE_SECONDS, OnSilent, ask_every_shard
from flowq.broker.workers import Workers, silent_seconds_in
from flowq.durations import duration_text
from flowq.errors import BrokerError
from flowq.runtime.identity import is_this_machine

MOST_SILENT_SECONDS = 30.0
"""A reader reads at least every few seconds. One that has been silent this long is stuck."""


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """One worker. `silent_seconds`: how long it has been trying to read without success."""

    worker: str
    host: str
    pid: int
    where: str
    has_lease: bool
    silent_seconds: float

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine, or in this container."""
        return is_this_machine(self.host, self.where)

    def fault(self, most_silent_seconds: float = MOST_SILENT_SECONDS) -> str | None:
        """What is wrong with it; None if nothing is."""
        if not self.has_lease:
            return f"worker {self.worker} (process {self.pid}) has lost its lease"
        if self.silent_seconds > most_silent_seconds:
            return (
                f"worker {self.worker} (process {self.pid}) has read nothing for {duration_text(self.silent_seconds)}"
            )
        return None


async def workers_of(broker: Broker, *, on_silent: OnSilent = lambda _: None) -> list[WorkerHealth]:
    """Every registered worker, alive or not: of several shards, of those that answer. Raises if none does.

    A process that serves several shards is one worker, apart from what it has registered and has no lease for.
    `on_silent` is told about the shards that do not answer.
    """
    answers = await ask_every_shard(broker, _lanes, patience_seconds=VIEW_PATIENCE_SECONDS)
    found = [worker for each in answers.known(on_silent).values() for worker in each]
    if len(broker.shards) == 1:
        return found
    alive: dict[tuple[str, str, int], WorkerHealth] = {}
    for worker in found:
        if worker.has_lease:
            known = alive.setdefault((worker.host, worker.where, worker.pid), worker)
            silent_seconds = max(known.silent_seconds, worker.silent_seconds)
            alive[worker.host, worker.where, worker.pid] = replace(known, silent_seconds=silent_seconds)
    return [*alive.values(), *(worker for worker in found if not worker.has_lease)]


async def _lanes(broker: Broker) -> list[WorkerHealth]:
    registered = await Workers(broker).registered()
    leases = await Workers(broker).leases(list(registered))
    return [
        WorkerHealth(
            worker=name,
            host=facts.get("host", ""),
            pid=facts.get("pid", 0),
            where=facts.get("where", ""),
            has_lease=leases[name] is not None,
            silent_seconds=silent_seconds_in(leases[name] or ""),
        )
        for name, facts in sorted(registered.items())
    ]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a probe."""

    is_good: bool
    about: dict[str, Any]


class Doctor:
    """Answers the probes of one process for the workers that it has started: `pids()`.

    If Redis does not reply, workers are not ready, but not unhealthy either: restarting them would not help. A worker
    without a lease is not ready. Only if that lasts is it unhealthy, since it may be starting.
    """

    def __init__(self, broker: Broker, pids: Callable[[], Collection[int]]) -> None:
        self._broker = broker
        self._pids = pids
        self._missing_since: dict[int, float] = {}

    async def alive(self) -> Verdict:
        """The answer to /healthz."""
        try:
            workers = await self._own_workers()
        except BrokerError as error:
            return Verdict(True, {"status": "ok", "redis": error.message})
        faults = [fault for worker in workers if worker.has_lease and (fault := worker.fault())]
        faults += [f"process {pid} has no lease" for pid in self._long_missing(workers)]
        about = {"status": "unhealthy" if faults else "ok", "faults": faults}
        return Verdict(not faults, {**about, "workers": [_shown(worker) for worker in workers]})

    async def ready(self) -> Verdict:
        """The answer to /readyz."""
        try:
            workers = await self._own_workers()
        except BrokerError as error:
            return Verdict(False, {"status": "not ready", "faults": [error.message]})
        faults = [fault for worker in workers if (fault := worker.fault())]
        faults += [f"process {pid} has no lease yet" for pid in self._missing(workers)]
        if not self._pids():
            faults.append("no worker process is running")
        return Verdict(not faults, {"status": "not ready" if faults else "ok", "faults": faults})

    async def _own_workers(self) -> list[WorkerHealth]:
        pids = set(self._pids())
        return [worker for worker in await workers_of(self._broker) if worker.is_here and worker.pid in pids]

    def _missing(self, workers: Sequence[WorkerHealth]) -> set[int]:
        return set(self._pids()) - {worker.pid for worker in workers if worker.has_lease}

    def _long_missing(self, workers: Sequence[WorkerHealth]) -> list[int]:
        now, missing = time.monotonic(), self._missing(workers)
        self._missing_since = {pid: self._missing_since.get(pid, now) for pid in missing}
        return sorted(pid for pid, since in self._missing_since.items() if now - since > MOST_SILENT_SECONDS)


def _shown(worker: WorkerHealth) -> dict[str, Any]:
    return {"worker": worker.worker, "pid": worker.pid, "silent_seconds": worker.silent_seconds}
