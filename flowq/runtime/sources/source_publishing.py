"""Publishes the messages of a source in bulk: soon after they were yielded, but not while an edge is full."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

from flowq.broker.claims import ClaimCheck
from flowq.broker.client.retrying import retry_until_available
from flowq.broker.publishing import CursorMove, Parcel, Refused
from flowq.broker.redis_streams import Broker
from flowq.delivery.chunks import MOST_PER_CALL
from flowq.delivery.edge import parse_address
from flowq.delivery.settlement import Output
from flowq.errors import RequestRefused
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.routing import deduplicating_edges
from flowq.graph.declaration.source_context import Saved
from flowq.runtime.housekeeping.pause_watch import PauseWatch
from flowq.runtime.sources.rejects import LONGEST_BODY_SHOWN, uncommittable
from flowq.runtime.sources.source_buffer import SourceBuffer, SourceChunk
from flowq.runtime.sources.source_intake import Taken
from flowq.runtime.stage.writing import Writing
from flowq.runtime.waiting import is_set_within

log = logging.getLogger("flowq.runtime")

_LONGEST_GATHER_SECONDS = 0.05
_FULL_PAUSE_SECONDS = 0.1


class TakenOver(Exception):
    """Another worker runs the source, or Redis has lost the cursor that this one stored."""


class SourcePublishing:
    """Gathers the messages of one source and publishes them. Only `run` talks to Redis, so that the order is kept.

    With `cursor_name`, each cursor is stored in the same call as the messages before it. `cursor` is the stored one.
    """

    def __init__(
        self,
        stage: StagePlan,
        plan: Plan,
        broker: Broker,
        next_id: Callable[[], bytes],
        writing: Writing,
        *,
        worker: str,
        pauses: PauseWatch,
        cursor_name: str,
        cursor: bytes,
    ) -> None:
        self._stage = stage
        self._plan = plan
        self._broker = broker
        self._next_id = next_id
        self._worker = worker
        self._pauses = pauses
        self._cursor_name = cursor_name
        self._cursor = cursor
        self._publishing = writing.publishing()
        self._backpressure = writing.backpressure(stage)
        self._deduplicating = deduplicating_edges(plan)
        self._buffer = SourceBuffer(holds=bool(cursor_name), most_bytes=self._backpressure.most_bytes)
        self._claims = ClaimCheck.of(broker, plan)
        # A call is accepted or refused as a whole: small calls keep a small edge close to its size.
        sizes = [plan.edge_in_shard[edge.name].maxsize for edge in plan.edges_out_of(stage.name) if edge.maxsize]
        self._most = max(1, min(MOST_PER_CALL, *(size // 10 for size in sizes)))
        self._news = asyncio.Event()
        self._is_due = asyncio.Event()
        self._room = asyncio.Event()
        self._has_ended = False
        self._finished = ""

    def add(self, taken: Taken) -> None:
        """Add what the source has yielded or recorded next."""
        if isinstance(taken, Saved):
            self._buffer.save(taken.cursor)
        else:
            self._buffer.add(taken)
        self._news.set()

    async def until_there_is_room(self) -> None:
        """Wait while a full chunk is buffered."""
        while self._buffer.is_full:
            self._room.clear()
            self._is_due.set()
            await self._room.wait()

    def end(self, *, finished: str = "") -> None:
        """End the publishing. With `finished`, the source came to its end, and that is recorded.

        Otherwise messages after the last cursor are dropped, since the source will yield them again.
        """
        self._has_ended, self._finished = True, finished
        self._news.set()
        self._is_due.set()

    async def run(self) -> None:
        """Publish until the end. Raises TakenOver, BrokerRefused."""
        while not self._has_ended:
            await self._news.wait()
            await is_set_within(self._is_due, _LONGEST_GATHER_SECONDS)
            self._news.clear()
            self._is_due.clear()
            if not self._has_ended:
                await self._flush()
        await self._flush(finished=self._finished)

    async def _flush(self, *, finished: str = "") -> None:
        await self._pauses.while_paused(self._stage.name)
        while (chunk := self._buffer.take(self._most, everything=bool(finished))) is not None:
            await self._backpressure.until_free()
            chunk = await self._deposited(chunk)
            last = "" if len(self._buffer) else finished
            while (refusal := await self._refusal_of(chunk, finished=last)) is not None:
                chunk = self._without_largest(chunk, refusal)
            self._backpressure.sent(sum([len(entry.body) for entry in chunk.entries]), handled=len(chunk.entries))
            self._room.set()

    async def _deposited(self, chunk: SourceChunk) -> SourceChunk:
        """The same chunk, its large bodies moved to the claim store: once, however often publishing is retried."""
        if (claims := self._claims) is None:
            return chunk
        what = f"publishing from {self._stage.name}"
        return replace(
            chunk,
            entries=await retry_until_available(self._broker.world, lambda: claims.deposit(chunk.entries), what=what),
        )

    async def _refusal_of(self, chunk: SourceChunk, *, finished: str) -> RequestRefused | None:
        """Publish a chunk. Returns the error if a message in it is larger than Redis accepts."""
        try:
            await self._publish(chunk, finished=finished)
        except RequestRefused as error:
            if max(map(_size, chunk.entries), default=0) <= LONGEST_BODY_SHOWN:
                raise
            return error
        return None

    def _without_largest(self, chunk: SourceChunk, refusal: RequestRefused) -> SourceChunk:
        """The same chunk with a dead letter in place of the largest message, so that the others can be stored."""
        largest = max(chunk.entries, key=_size)
        letter = uncommittable(
            largest, refusal, worker=self._worker, run_id=self._broker.run_id, world=self._broker.world
        )
        log.warning("source %s: a message of %d bytes is more than Redis accepts", self._stage.name, _size(largest))
        return replace(chunk, entries=[letter if entry is largest else entry for entry in chunk.entries])

    async def _publish(self, chunk: SourceChunk, *, finished: str) -> None:
        parcels, token, name = self._parcels(chunk), self._next_id().decode(), self._stage.name
        cursor = self._cursor if chunk.cursor is None else chunk.cursor
        move = CursorMove(self._cursor_name, self._cursor, cursor) if self._cursor_name else None

        async def attempt() -> bool:
            published = await self._publishing.publish_together(
                parcels, token=token, source=name, move=move, finished=finished, runner=self._worker
            )
            if published.is_elsewhere:
                raise TakenOver
            return published.full_at is None

        async def is_stored() -> bool:
            try:
                return await retry_until_available(self._broker.world, attempt, what=what)
            except RequestRefused:
                if not await retry_until_available(
                    self._broker.world, lambda: self._publishing.was_published(token), what=what
                ):
                    raise
                return False  # stored, only the replies were lost: the next attempt with this token confirms it

        what, n_pauses = f"publishing from {name}", 0
        while not await is_stored():
            await self._broker.world.pause(_FULL_PAUSE_SECONDS)  # others empty it
            n_pauses += 1
            if self._claims is not None:
                await self._claims.refresh(chunk.entries, n_pauses=n_pauses)
        self._cursor = cursor

    def _parcels(self, chunk: SourceChunk) -> list[Parcel]:
        messages: defaultdict[str, list[Output]] = defaultdict(list)
        refused: defaultdict[str, list[Refused]] = defaultdict(list)
        for entry in chunk.entries:
            if isinstance(entry, Output):
                messages[entry.edge].append(entry)
            else:
                refused[entry.edge].append(entry)
        parcels: list[Parcel] = []
        for name in dict.fromkeys([*messages, *refused]):
            edge = self._plan.edge_in_shard[parse_address(name).edge]
            memory = self._deduplicating.get(edge.name)
            parcels.append(Parcel(name, messages[name], refused[name], memory, edge.maxsize))
        return parcels


def _size(entry: Output | Refused) -> int:
    return len(entry.body)
