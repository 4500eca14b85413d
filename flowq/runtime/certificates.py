"""Death certificates: who can tell for certain that a worker's process is gone, so that nobody waits for its lease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowq.broker.redis_streams import Broker
from flowq.runtime.identity import process_birth, process_space

CRASH = "crash: "
"""How the certificate of a worker begins that was seen to die by its parent."""


def crashed(certificates: Mapping[str, str]) -> dict[str, str]:
    """The workers among these that crashed, and of what."""
    return {name: how.removeprefix(CRASH) for name, how in certificates.items() if how.startswith(CRASH)}


async def certify_child(broker: Broker, pid: int, how: str, *, supervisor: str, was_asked: bool) -> bool:
    """A child of this supervisor was seen to end. One that had not signed off crashed, unless it was asked to end.

    Returns whether there was anything to certify.
    """
    workers = await broker.registered_workers()
    # Not by the machine: where /proc is missing, all machines look alike, and another one may have the same pid.
    children = {name: facts for name, facts in workers.items() if facts.get("supervisor") == supervisor}
    names = _all_names({name: facts for name, facts in children.items() if facts.get("pid") == pid})
    for name in names:
        await broker.certify_dead(name, f"stopped: {how}" if was_asked else CRASH + how)
    return bool(names)


async def certify_lost_neighbours(broker: Broker) -> list[str]:
    """Certify the workers of this machine whose processes no longer exist, as after `kill -9` of a whole run."""
    here = process_space()
    workers = await broker.registered_workers()
    lost = _all_names({name: facts for name, facts in workers.items() if _is_lost(facts, here)})
    for name in lost:
        await broker.certify_dead(name, "lost: its process is gone")
    return lost


async def sign_off_the_dead(broker: Broker, edges: Sequence[str]) -> None:
    """Strike off whoever is certified dead and has left nothing on these edges: the living have been stopped."""
    for name, how in (await broker.certificates()).items():
        if not await broker.retire(name, edges, reason=how):
            await broker.forget([name])


def _all_names(workers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Their names, and those that they had before they were taken for dead: a late read may have brought them back."""
    return [known for name, facts in workers.items() for known in (name, *facts.get("formerly", ()))]


def _is_lost(facts: Mapping[str, Any], here: str) -> bool:
    # A process id means something only within one boot and one process namespace, and only together with the
    # moment at which its process was born: ids are given again.
    is_here = bool(here) and facts.get("where") == here and "pid" in facts
    return is_here and process_birth(facts["pid"]) != facts.get("born")
