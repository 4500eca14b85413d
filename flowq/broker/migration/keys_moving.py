"""Moves what is remembered by pacing key, by message id and by the place of a message to the shards where that is."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from flowq.broker.keys import Keys
from flowq.broker.migration.moving import Moving
from flowq.broker.migration.scanning import scan
from flowq.broker.migration.stored_seen import StoredSeen
from flowq.broker.records import delayed_fields, pairs
from flowq.broker.redis_streams import Broker
from flowq.delivery.placement import cell_of, cells, shard_of
from flowq.delivery.policy import DedupMemory
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.routing import deduplicating_edges
from flowq.graph.kinds import PlacedBy

_PER_CALL = 500
_Kind = Callable[[Keys, str], str]
_HASHES = Keys.rate, Keys.starts, Keys.pace, Keys.hold_info
_SCORED = (Keys.held_until,)


class KeysMoving:
    """Moves rates, paces and holds; copies the tokens of what was published; notes anew where messages are."""

    def __init__(self, broker: Broker, plan: Plan, n_before: int) -> None:
        """The plan has the number of shards that is to be, `n_before` is how many there were."""
        self._brokers = broker.shards
        self._before = broker.shards[:n_before]
        self._plan = plan
        self._shards = cells(plan.shards)

    async def copy(self) -> None:
        """Have everything remembered in each shard where it is needed. What is there already stays."""
        for broker in self._before:
            for stage in self._plan.consumers:
                for kind in (*_HASHES, *_SCORED):
                    await self._copy(broker, stage, kind)
            await self._copy_tokens(broker)

    async def forget(self) -> None:
        """Forget what other shards are certain to remember, and what is needed there alone."""
        for broker in self._before:
            for stage in self._plan.consumers:
                if stage.placed_by not in (PlacedBy.RATE, PlacedBy.STAGE):
                    continue
                for kind in (*_HASHES, *_SCORED):
                    await self._forget(broker, stage, kind)

    def _shard(self, stage: StagePlan, key: bytes) -> int | None:
        """The shard of a pacing key; None for a stage whose messages of one key are in all shards."""
        match stage.placed_by:
            case PlacedBy.STAGE:
                return self._shards[cell_of(stage.name.encode())]
            case PlacedBy.RATE:
                return self._shards[cell_of(key.removeprefix(b"\n"))]
            case _:
                return None

    async def _copy(self, broker: Broker, stage: StagePlan, kind: _Kind) -> None:
        by_shard: defaultdict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        async for name, value in scan(broker, _scan_of(kind), kind(broker.keys, stage.name)):
            shard = self._shard(stage, name)
            for to in range(self._plan.shards) if shard is None else (shard,):
                if to != broker.shard:
                    by_shard[to].append((name, value))
        for to, some in by_shard.items():
            target = kind(self._brokers[to].keys, stage.name)
            await _put(self._brokers[to], target, some, is_scored=kind in _SCORED)

    async def _forget(self, broker: Broker, stage: StagePlan, kind: _Kind) -> None:
        key, remove = kind(broker.keys, stage.name), b"ZREM" if kind in _SCORED else b"HDEL"
        names = [name async for name, _ in scan(broker, _scan_of(kind), key)]
        gone = [name for name in names if self._shard(stage, name) != broker.shard]
        for at in range(0, len(gone), _PER_CALL):
            await broker.answer(remove, key, *gone[at : at + _PER_CALL])

    async def _copy_tokens(self, broker: Broker) -> None:
        by_shard: defaultdict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        async for token, score in scan(broker, b"ZSCAN", broker.keys.published):
            for shard in {shard_of(each, self._plan.shards) for each in _ids_in(token)} - {broker.shard}:
                by_shard[shard].append((token, score))
        for shard, some in by_shard.items():
            target = self._brokers[shard]
            await _put(target, target.keys.published, some, is_scored=True)

    async def stop_queueing(self) -> None:
        """Make the messages that wait for others of their key due: they ask again where they live."""
        for broker in self._brokers:
            for stage in self._plan.consumers:
                await Moving(broker).dequeue_all(stage.name, stage.in_edges)

    async def note_places(self) -> None:
        """Note anew where the messages are whose stages handle the last one of each value. They have all arrived."""
        memories = deduplicating_edges(self._plan)
        for broker in self._brokers[: self._plan.shards]:
            for stage in self._plan.consumers:
                memory = memories.get(stage.in_edges[0]) if stage.in_edges else None
                if memory is not None and memory.places:
                    await _note_places(broker, stage, memory)


def _scan_of(kind: _Kind) -> bytes:
    return b"ZSCAN" if kind in _SCORED else b"HSCAN"


async def _put(broker: Broker, key: str, some: Sequence[tuple[bytes, bytes]], *, is_scored: bool) -> None:
    for at in range(0, len(some), _PER_CALL):
        part = some[at : at + _PER_CALL]
        if is_scored:
            await broker.answer(b"ZADD", key, b"NX", *(word for name, score in part for word in (score, name)))
        else:
            await broker.answers([(b"HSETNX", key, name, value) for name, value in part])


def _ids_in(token: bytes) -> set[bytes]:
    """The ids by which a call that is made again may choose its shard: see `PushCall`."""
    kind, _, rest = token.partition(b":")
    named = rest.partition(b":")[2] if kind == b"push" else token.rpartition(b":")[0]
    return {each for each in (named, named.rstrip(b".")) if each}


async def _note_places(broker: Broker, stage: StagePlan, memory: DedupMemory) -> None:
    keys, key = broker.keys, broker.keys.latest(stage.name)
    form = await StoredSeen(broker, stage).form()
    n_bytes = form.n_bytes if form else memory.hash_bytes
    await broker.answer(b"DEL", key)
    for edge in stage.in_edges:
        first: Any = b"-"
        while entries := await broker.answer(b"XRANGE", keys.edge(edge), first, b"+", b"COUNT", _PER_CALL):
            headers = [(entry_id, dict(pairs(fields)).get(b"h", b"")) for entry_id, fields in entries]
            await _note(broker, key, headers, n_bytes)
            first = b"(" + entries[-1][0]
        delayed = [value async for _, value in scan(broker, b"HSCAN", keys.delayed_bodies(edge))]
        headers = [(b"", dict(pairs(delayed_fields(value))).get(b"h", b"")) for value in delayed]
        await _note(broker, key, headers, n_bytes)


async def _note(broker: Broker, key: str, headers: Sequence[tuple[bytes, bytes]], n_bytes: int) -> None:
    words: list[Any] = []
    for entry_id, header in headers:
        word = next((word[2:] for word in header.split(b" ") if word.startswith(b"k=")), b"")
        if word and b" p=" not in header:
            value = urlsafe_b64decode(word + b"=" * (-len(word) % 4))
            words += (value[:n_bytes], entry_id + b" " + header.partition(b" ")[0])
    for at in range(0, len(words), 2 * _PER_CALL):
        await broker.answer(b"HSET", key, *words[at : at + 2 * _PER_CALL])
