"""Death records: a worker is known to be dead, so that others need not wait for its lease to expire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
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


async def record_death_of_child(broker: Broker, pid: int, how: str, *, supervisor: str, was_asked: bool) -> bool:
    """Record the death of a child of this supervisor. Unless it signed off or was asked to stop, it crashed.

    Returns whether there was anything to record.
    """
    found = await _in_every_shard(
        broker, partial(_record_death_of_child, pid=pid, how=how, supervisor=supervisor, was_asked=was_asked)
    )
    return any(found)


async def _record_death_of_child(broker: Broker, *, pid: int, how: str, supervisor: str, was_asked: bool) -> bool:
    workers = await Workers(broker).registered()
    # Not by machine: without /proc all machines look alike, and another one may have a worker with this pid.
    children = {name: facts for name, facts in workers.items() if facts.get("supervisor") == supervisor}
    names = _all_names({name: facts for name, facts in children.items() if facts.get("pid") == pid})
    for name in names:
        await Workers(broker).record_death(name, f"stopped: {how}" if was_asked else CRASH + how)
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
