"""What enters a pipeline in one step: messages for some edges, what could not become one, and how far a source is."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from flowq.broker import scripts
from flowq.broker.client.retrying import run_script
from flowq.broker.records import Published
from flowq.broker.redis_streams import Broker
from flowq.delivery.edge import Edge
from flowq.delivery.policy import DedupMemory
from flowq.delivery.settlement import Output

PUBLISH_WINDOW_MS = 3_600_000
"""How long a publish that is sent again is recognised."""


class Refused(NamedTuple):
    """What could not become a message of an edge: a dead letter from the beginning. `info` is JSON."""

    edge: str
    header: bytes
    body: bytes
    info: bytes


@dataclass(frozen=True, slots=True)
class Parcel:
    """All that enters one edge. `dedup` is None if its stage does not deduplicate; `maxsize` 0 is no limit."""

    edge: str
    messages: Sequence[Output]
    refused: Sequence[Refused] = ()
    dedup: DedupMemory | None = None
    maxsize: int = 0


@dataclass(frozen=True, slots=True)
class CursorMove:
    """How far a source is: stored only if it is at `before` now (b"" when it has not begun)."""

    name: str
    before: bytes
    after: bytes


class Publishing:
    """Appends messages from outside: pushed by a program, or read by a source."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def publish(
        self,
        edge: str,
        messages: Sequence[Output],
        *,
        dedup: DedupMemory | None = None,
        token: str = "",
        call_id: str = "",
        maxsize: int = 0,
        delay_ms: int = 0,
        source: str = "",
    ) -> Published:
        """Append messages to an edge; the same token again appends nothing.

        `call_id`: unique to this call and its retries, which then know their own token from that of an earlier call.
        """
        is_plain = token and messages and dedup is None and not (delay_ms or source)
        if is_plain and self._broker.durability == "local":  # waiting for a replica costs more than all else
            published = await self._publish_plainly(edge, messages, token=token, call_id=call_id, maxsize=maxsize)
            if published is not None:
                return published
        parcel = Parcel(edge, messages, (), dedup, maxsize)
        return await self.publish_together([parcel], token=token, call_id=call_id, delay_ms=delay_ms, source=source)

    async def _publish_plainly(
        self, edge: str, messages: Sequence[Output], *, token: str, call_id: str, maxsize: int
    ) -> Published | None:
        """The fast path, which serves most calls. Returns None, and changes nothing, if this one needs publish.lua."""
        keys = self._broker.keys
        names = keys.stats, keys.published, keys.edge(edge), keys.delayed(edge)
        arguments: list[Any] = [token, call_id, edge, maxsize, PUBLISH_WINDOW_MS]
        for message in messages:
            arguments += (message.header, message.body)
        reply = await run_script(self._broker.publishing, scripts.PUBLISH_PLAIN, names, arguments)
        match reply[0]:
            case 1:
                return Published(reply[1], 0)
            case 0:
                return Published(0, 0, full_at=reply[1])
            case _:
                return None

    async def publish_together(
        self,
        parcels: Sequence[Parcel],
        *,
        token: str = "",
        call_id: str = "",
        delay_ms: int = 0,
        source: str = "",
        move: CursorMove | None = None,
        finished: str = "",
        runner: str = "",
    ) -> Published:
        """Append to several edges in one step, and move the cursor of the source that all this comes from.

        `runner` is the worker that runs it. `finished`: the signature of its arguments, if these are its last
        messages. Where a replica must confirm them first, that is not recorded here.
        """
        keys, claims, durability = self._broker.keys, self._broker.claims, self._broker.durability
        cursor = (move.name, move.before, move.after) if move else ("", b"", b"")
        record = done(finished) if finished and durability == "local" else ""
        replaces = any(parcel.dedup is not None and parcel.dedup.places for parcel in parcels)
        can_release = claims is not None and (claims.has_stored or replaces)  # duplicates may be references
        names: list[Any] = [keys.stats, keys.published]
        if source:
            names += (keys.cursors, keys.run)
        arguments: list[Any] = [
            token, call_id, source, runner, *cursor, record, PUBLISH_WINDOW_MS, delay_ms, len(parcels), int(can_release)
        ]  # fmt: skip
        for parcel in parcels:
            stage, n_refused = Edge.parse(parcel.edge).target, len(parcel.refused)
            names += keys.of_target(parcel.edge, parcel.dedup)
            names += [keys.dead(stage)] if n_refused else []
            places = parcel.dedup.places if parcel.dedup else ()
            arguments += (parcel.edge, stage, parcel.maxsize, *memory_arguments(parcel.dedup))
            arguments += (len(parcel.messages), n_refused, *places)
        for parcel in parcels:
            add_messages(arguments, parcel.messages, memory=parcel.dedup)
            for refused in parcel.refused:
                arguments += refused[1:]
        if can_release:
            names.append(keys.released)
        reply = await self._run(names, arguments)
        match reply[0]:
            case 1:
                return Published(reply[1], reply[2], is_repeated=not reply[3])
            case 0:
                return Published(0, 0, full_at=reply[1])
            case _:
                return Published(0, 0, is_elsewhere=True)

    async def _run(self, names: list[Any], arguments: list[Any]) -> Any:
        link, replicated = self._broker.publishing, self._broker.durability == "replicated"
        return await run_script(link, scripts.PUBLISH, names, arguments, replicated=replicated)

    async def was_published(self, token: str) -> bool:
        """Whether a call with this token has been stored, of whose reply nothing is known."""
        score = await self._broker.answer(b"ZSCORE", self._broker.keys.published, token)
        return score is not None


def done(signature: str) -> str:
    """The state of a source that has published everything for these arguments."""
    return f"done {signature}"


def memory_arguments(memory: DedupMemory | None) -> tuple[int, int, int]:
    """What `next_target` in `parts/edges.lua` reads.

    For how many ms a stage remembers (0: it does not deduplicate, -1: until it is told to forget), by how many bytes
    of a hash, and how many places it has.
    """
    if memory is None:
        return 0, 0, 0
    return -1 if memory.ttl_ms is None else memory.ttl_ms, memory.hash_bytes, len(memory.places)


def add_messages(
    arguments: list[Any], messages: Sequence[Output], *, memory: DedupMemory | None, delays: bool = False
) -> None:
    """Add messages to the arguments of a script, as `enter` in `parts/edges.lua` reads them."""
    names_hash = memory is not None and bool(memory.places)
    for message in messages:
        header = message.header
        if names_hash and message.dedup_hash:
            header += b" k=" + urlsafe_b64encode(message.dedup_hash).rstrip(b"=")
        arguments += (header, message.body)
        if memory is not None:
            arguments.append(message.dedup_hash)
        if delays:
            arguments.append(message.delay_ms)
