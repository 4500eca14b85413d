"""Death records: a worker is known to be dead, so that others need not wait for its lease to expire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers
from flowq.runtime.identity import process_birth, process_space

T = TypeVar("T")

CRASH = "crash: "
"""The prefix of the death record of a worker whose supervisor saw it crash."""


def crashed(records: Mapping[str, str]) -> dict[str, str]:
    """The workers among these that crashed, and how."""
    return {name: how.removeprefix(CRASH) for name, how in records.items() if how.startswith(CRASH)}


@dataclass(frozen=True, slots=True)
class Death:
    """The death of a child of a supervisor, with its birth as in `process_birth`: process ids are reused."""

    supervisor: str
    pid: int
    born: str
    how: str
    was_asked: bool

    def is_of(self, facts: Mapping[str, Any]) -> bool:
        """Whether the worker with these facts has died this death."""
        # Not by machine: without /proc all machines look alike, and another one may have a worker with this pid.
        return (self.supervisor, self.pid, self.born) == tuple(map(facts.get, ("supervisor", "pid", "born")))


async def record_death_of_child(shard: Broker, death: Death) -> bool:
    """Record a death in one shard. Unless the child signed off or was asked to stop, it crashed.

    Returns whether there was anything to record.
    """
    workers = await Workers(shard).registered()
    names = _all_names({name: facts for name, facts in workers.items() if death.is_of(facts)})
    for name in names:
        await Workers(shard).record_death(name, f"stopped: {death.how}" if death.was_asked else CRASH + death.how)
    return bool(names)


async def record_lost_neighbours(broker: Broker) -> list[str]:
    """Record the deaths of workers of this machine whose processes are gone, as after `kill -9` of a whole run."""
    return [name for names in await _in_every_shard(broker, _record_lost_neighbours) for name in names]


async def _record_lost_neighbours(broker: Broker) -> list[str]:
    here = process_space()
    workers = await Workers(broker).registered()
    lost = _all_names({name: facts for name, facts in workers.items() if _is_lost(facts, here)})
    for name in lost:
        await Workers(broker).record_death(name, "lost: its process is gone")
    return lost


async def sign_off_the_dead(broker: Broker, edges: Sequence[str]) -> None:
    """Sign off the dead workers that have left nothing on these edges. Called once all live workers have stopped."""
    await _in_every_shard(broker, partial(_sign_off_the_dead, edges=edges))


async def _sign_off_the_dead(broker: Broker, *, edges: Sequence[str]) -> None:
    for name, how in (await Workers(broker).death_records()).items():
        if not await Workers(broker).retire(name, edges, reason=how):
            await Workers(broker).forget([name])


async def _in_every_shard(broker: Broker, work: Callable[[Broker], Awaitable[T]]) -> list[T]:
    """The results of all shards. One that does not answer keeps no other waiting: its error is raised at the end."""
    results = await asyncio.gather(*(work(each) for each in broker.shards), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def _all_names(workers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Their names and their former ones, which a late read may have registered as consumers again."""
    return [known for name, facts in workers.items() for known in (name, *facts.get("formerly", ()))]


def _is_lost(facts: Mapping[str, Any], here: str) -> bool:
    # A process id is valid only within one boot and one PID namespace, and only together with the start time of its
    # process: ids are reused.
    is_here = bool(here) and facts.get("where") == here and "pid" in facts
    return is_here and process_birth(facts["pid"]) != facts.get("born")
