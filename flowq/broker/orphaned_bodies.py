"""Finds the large bodies that no message refers to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flowq.broker import scripts
from flowq.broker.claims import identify
from flowq.broker.records import pairs
from flowq.broker.redis_streams import Broker
from flowq.broker.released import paths_in
from flowq.delivery.stored import text_in
from flowq.graph.compilation.plan import Plan

YOUNGEST_ORPHAN_SECONDS = 86_400.0
"""A body is written before the message that refers to it, which may have to wait for Redis."""

_PER_CALL = 1000
_STREAMS, _HASHES = ("edge:", "dead:", "kept:", "released"), ("parked:",)


@dataclass(frozen=True, slots=True)
class OrphanedBodies:
    """Bodies without a message, by their paths in the store of the pipeline, and their size together."""

    paths: Sequence[str]
    n_bytes: int


async def orphaned_bodies(broker: Broker, plan: Plan, *, older_than_seconds: float) -> OrphanedBodies:
    """The bodies that no message of the pipeline refers to: waiting, running, delayed, dead, kept or just released.

    Exact, also while messages move. Everything is looked through step by step; then, at one instant, all delayed
    messages and all entries appended since the beginning. A message that is elsewhere at that instant has not moved
    since the beginning, and has been seen. Raises WrongClaimStore, ClaimStoreUnavailable.
    """
    store = broker.claims
    bodies = await store.bodies(before=time.time() - older_than_seconds) if store is not None else {}
    if not bodies:
        return OrphanedBodies((), 0)
    await identify(broker)  # in the store of another Redis all bodies would be orphans
    wanted = await _referred_to(broker, plan)
    orphans = {path: n_bytes for path, n_bytes in bodies.items() if path not in wanted}
    return OrphanedBodies(tuple(orphans), sum(orphans.values()))


async def _referred_to(broker: Broker, plan: Plan) -> set[str]:
    wanted: set[str] = set()
    streams, _ = await _keys(broker, plan)
    last = await _last_ids(broker, streams)
    for stream in streams:
        after = "0-0"
        while after:
            look = partial(_look, broker, stream, after)
            reply, _ = await broker.paging.ask(look, _PER_CALL)
            after = reply[0].decode()
            wanted.update(paths_in([reply[1]]))
    # What was appended to a stream meanwhile is little enough for one step.
    streams, hashes = await _keys(broker, plan)
    after_what_was_seen = [last.get(stream, "0-0") for stream in streams]
    reply = await broker.script(scripts.REFERENCES, [*streams, *hashes], len(streams), 0, *after_what_was_seen)
    wanted.update(paths_in([reply[-1]]))
    return wanted


async def _look(broker: Broker, stream: str, after: str, most: int) -> Any:
    return await broker.script(scripts.REFERENCES, [stream], 1, most, after)


async def _keys(broker: Broker, plan: Plan) -> tuple[list[str], list[str]]:
    """The streams and hashes that may hold messages: those of the plan, and those of earlier versions."""
    keys = broker.keys
    streams = {keys.released, *(keys.edge(edge.name) for edge in plan.edges)}
    streams.update(key(stage.name) for stage in plan.consumers for key in (keys.dead, keys.kept))
    hashes = {keys.delayed_bodies(edge.name) for edge in plan.edges}
    cursor, prefix = b"0", keys.all.removesuffix("*")
    while True:
        cursor, names = await broker.answer(b"SCAN", cursor, b"MATCH", keys.all, b"COUNT", _PER_CALL)
        for name in map(text_in, names):
            rest = name.removeprefix(prefix)
            if rest.startswith(_STREAMS):
                streams.add(name)
            elif rest.startswith(_HASHES):
                hashes.add(name)
        if cursor == b"0":
            return sorted(streams), sorted(hashes)


async def _last_ids(broker: Broker, streams: Sequence[str]) -> dict[str, str]:
    """The id of the last entry ever added to each stream; no item for a stream that does not exist."""
    replies = await broker.ask([(b"XINFO", b"STREAM", stream) for stream in streams])
    return {
        stream: dict(pairs(reply))[b"last-generated-id"].decode()
        for stream, reply in zip(streams, replies, strict=True)
        if not isinstance(reply, Exception)
    }
