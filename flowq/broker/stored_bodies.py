"""Large bodies as Redis knows them: which store holds them, which are no longer needed, and which no message names."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flowq.broker import scripts
from flowq.broker.records import pairs
from flowq.broker.redis_streams import Broker
from flowq.delivery.stored import text_in
from flowq.errors import BodyLost, BrokerError, WrongClaimStore
from flowq.graph.compilation.plan import Plan
from flowq.large_bodies.reference import Reference

RELEASED_SECONDS = 60
"""How long a body outlives its message. A Redis that restarts or fails over may forget its last settlements; their
messages run again then and need their bodies. The note of the release is forgotten with the settlement."""

YOUNGEST_ORPHAN_SECONDS = 86_400.0
"""A body is written before the message that refers to it, which may have to wait for Redis."""

_NEW = "new "
"""Prefix of a recorded name that may not be in the store yet: any process that reads it writes it there."""

_RELEASES_PER_CALL, _ENTRIES_PER_CALL = 100, 1000
_STREAMS, _HASHES = ("edge:", "dead:", "kept:", "released"), ("parked:",)


@dataclass(frozen=True, slots=True)
class OrphanedBodies:
    """Bodies without a message: their paths in the store of the pipeline, and their total size."""

    paths: Sequence[str]
    n_bytes: int


class StoredBodies:
    """All large bodies of one pipeline."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def identify_store(self) -> None:
        """Check that the store is the one on record, or record it if there is none.

        A Redis that has lost all its data records the store it finds. Raises WrongClaimStore, BrokerError.
        """
        broker, store, key = self._broker, self._broker.claims, self._broker.keys.claims
        if store is None or store.name:
            return
        recorded = text_in(await broker.answer(b"GET", key) or b"")
        if not recorded:
            await broker.answer(b"SET", key, await store.name_in_store() or _NEW + broker.world.word(16), b"NX")
            recorded = text_in(await broker.answer(b"GET", key) or b"")
        # Only after the record has been read: another process may have written both since.
        name = await store.name_in_store()
        if recorded.startswith(_NEW) and name in ("", recorded.removeprefix(_NEW)):
            recorded = name = recorded.removeprefix(_NEW)
            await store.take_name(name)
            await broker.answer(b"SET", key, name)
        if name != recorded:
            raise WrongClaimStore(
                f"{store} is not the store that holds the large bodies of {broker.keys.pipeline}",
                hint="use the one that all workers share; if it is lost, flowq run --fresh forgets it "
                f"and all messages; redis-cli DEL {key} forgets only the store",
            )
        store.name = name

    async def release(self, references: Sequence[bytes]) -> None:
        """Note that these bodies are no longer needed. If Redis does not answer, they are left to `flowq gc`."""
        with contextlib.suppress(BrokerError):
            text = b"".join(reference + b"\n" for reference in references)
            await self._broker.ask([(b"XADD", self._broker.keys.released, b"*", b"r", text)])

    async def delete_released(self) -> None:
        """Delete the bodies that were released long enough ago.

        Several workers may do this at once and be interrupted anywhere: deleting a body twice is no error. Raises
        BrokerError, and ClaimStoreUnavailable if the store cannot be reached.
        """
        broker, released = self._broker, self._broker.keys.released
        while broker.claims is not None:
            until_ms = await broker.now_ms() - RELEASED_SECONDS * 1000
            read = partial(broker.answer, b"XRANGE", released, b"-", max(0, until_ms), b"COUNT")
            entries, _ = await broker.paging.ask(read, _RELEASES_PER_CALL)
            if not entries:
                return
            await broker.claims.remove(_paths_in(value for _, fields in entries for value in fields[1::2]))
            await broker.answer(b"XDEL", released, *(entry_id for entry_id, _ in entries))

    async def orphaned(self, plan: Plan, *, older_than_seconds: float) -> OrphanedBodies:
        """The bodies that no message of the pipeline refers to: waiting, running, delayed, dead, kept or just released.

        Exact, also while messages move. Every stream is read page by page; then, in one atomic step, all delayed
        messages and all entries appended since the start. A message that is elsewhere at that instant has not moved
        since the start, and has been seen. Several shards are looked at one after the other: call this only while no
        worker is alive and nothing is in transit between them. Raises WrongClaimStore, ClaimStoreUnavailable.
        """
        store = self._broker.claims
        bodies = await store.bodies(before=time.time() - older_than_seconds) if store is not None else {}
        if not bodies:
            return OrphanedBodies((), 0)
        await self.identify_store()  # in the store of another Redis all bodies would be orphans
        wanted = set[str]().union(*[await StoredBodies(shard)._referred_to(plan) for shard in self._broker.shards])
        orphans = {path: n_bytes for path, n_bytes in bodies.items() if path not in wanted}
        return OrphanedBodies(tuple(orphans), sum(orphans.values()))

    async def _referred_to(self, plan: Plan) -> set[str]:
        broker, wanted = self._broker, set[str]()
        streams, _ = await self._keys(plan)
        last = await self._last_ids(streams)
        for stream in streams:
            after = "0-0"
            while after:
                reply, _ = await broker.paging.ask(partial(self._look, stream, after), _ENTRIES_PER_CALL)
                after = reply[0].decode()
                wanted.update(_paths_in([reply[1]]))
        # What was appended to a stream meanwhile is little enough for one step.
        streams, hashes = await self._keys(plan)
        after_what_was_seen = [last.get(stream, "0-0") for stream in streams]
        reply = await broker.script(scripts.BODY_REFERENCES, [*streams, *hashes], len(streams), 0, *after_what_was_seen)
        wanted.update(_paths_in([reply[-1]]))
        return wanted

    async def _look(self, stream: str, after: str, most: int) -> Any:
        return await self._broker.script(scripts.BODY_REFERENCES, [stream], 1, most, after)

    async def _keys(self, plan: Plan) -> tuple[list[str], list[str]]:
        """The streams and hashes that may hold messages: those of the plan, and those of earlier versions."""
        keys = self._broker.keys
        streams = {keys.released, *(keys.edge(edge.name) for edge in plan.edges)}
        streams.update(key(stage.name) for stage in plan.consumers for key in (keys.dead, keys.kept))
        hashes = {keys.delayed_bodies(edge.name) for edge in plan.edges}
        cursor, prefix = b"0", keys.all.removesuffix("*")
        while True:
            cursor, names = await self._broker.answer(b"SCAN", cursor, b"MATCH", keys.all, b"COUNT", _ENTRIES_PER_CALL)
            for name in map(text_in, names):
                rest = name.removeprefix(prefix)
                if rest.startswith(_STREAMS):
                    streams.add(name)
                elif rest.startswith(_HASHES):
                    hashes.add(name)
            if cursor == b"0":
                return sorted(streams), sorted(hashes)

    async def _last_ids(self, streams: Sequence[str]) -> dict[str, str]:
        """The id of the last entry ever added to each stream; no item for a stream that does not exist."""
        replies = await self._broker.ask([(b"XINFO", b"STREAM", stream) for stream in streams])
        return {
            stream: dict(pairs(reply))[b"last-generated-id"].decode()
            for stream, reply in zip(streams, replies, strict=True)
            if not isinstance(reply, Exception)
        }


def _paths_in(values: Iterable[bytes]) -> list[str]:
    """The paths named by notes of releases; what is not a reference is skipped."""
    paths: list[str] = []
    for line in b"\n".join(values).split(b"\n"):
        with contextlib.suppress(BodyLost):
            paths.append(Reference.decode(line).path)
    return paths
