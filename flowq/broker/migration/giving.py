"""Gives messages that wait or are delayed to the shards in which they live, a step at a time, through outboxes."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flowq.broker import scripts
from flowq.broker.keys import GROUP
from flowq.broker.migration.moving import StillServed
from flowq.broker.migration.scanning import scan
from flowq.broker.records import delayed_fields, pairs
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.layout import has_changed
from flowq.broker.shards.outbox import Group, new_nonce, outbox_arguments, packets
from flowq.broker.workers import Workers
from flowq.delivery.edge import is_crossing, parse_address
from flowq.delivery.message import Arrival, Delivery, Header
from flowq.delivery.settlement import Output
from flowq.delivery.stored import as_stored, text_in
from flowq.errors import BodyElsewhere, DecodeError
from flowq.graph.compilation.placing import Placing
from flowq.large_bodies.store import redeem

MOST_PER_STEP = 300
_MOST_BYTES = 4_000_000
_LATEST_MS = 10**15  # another program may have written any number, also an infinite one
_GIVEN, _GONE, _OTHER_LAYOUT, _SERVED = 1, -1, -2, -3


@dataclass(slots=True)
class _Step:
    """What is given in one call. `staying`, `staying_delayed`: each message that stays, and its other header."""

    ids: list[bytes] = field(default_factory=list[bytes])
    names: list[bytes] = field(default_factory=list[bytes])
    staying: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    staying_delayed: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    outputs: dict[int, tuple[list[Output], list[Output]]] = field(
        default_factory=lambda: defaultdict[int, tuple[list[Output], list[Output]]](lambda: ([], []))
    )
    n_bytes: int = 0

    @property
    def is_full(self) -> bool:
        return self.n_messages + self.n_staying >= MOST_PER_STEP or self.n_bytes >= _MOST_BYTES

    @property
    def n_messages(self) -> int:
        return len(self.ids) + len(self.names)

    @property
    def n_staying(self) -> int:
        return len(self.staying) + len(self.staying_delayed)


@dataclass(frozen=True, slots=True)
class _Found:
    """A message where it is stored: its entry id, or its name and in how many ms it is due if it is delayed."""

    name: bytes
    fields: Sequence[bytes]
    delay_ms: int = 0


class Giving:
    """Gives what is in one shard and lives in others."""

    def __init__(self, broker: Broker, placing: Placing) -> None:
        self._broker = broker
        self._placing = placing

    async def edge(self, edge: str) -> int:
        """Give all messages of an edge whose place is another shard; returns how many.

        Every step is atomic. After an interruption the same call gives the rest. Messages of other programs stay where
        they are: what reads an inlet passes them on. Raises StillServed when a worker that reads the edge is alive,
        WrongLayout when another process has finished the move.
        """
        given = 0
        while True:
            n, is_complete = await self._pass(edge)
            given += n
            if is_complete:
                return given

    async def share(self, edge: str, sample: int) -> float:
        """Which share of the messages of an edge lives elsewhere, by the first of them."""
        n, n_elsewhere = 0, 0
        for source in (self._waiting, self._delayed):
            async for found in source(edge):
                if n == sample:
                    break
                n += 1
                n_elsewhere += is_crossing((await self._placed(edge, found)).edge)
        return n_elsewhere / n if n else 0.0

    async def _pass(self, edge: str) -> tuple[int, bool]:
        """Give what is found; returns how many, and whether all of it was still there."""
        given, is_complete = 0, True
        async for step in self._steps(edge):
            if await self._give(edge, step):
                given += step.n_messages
            else:
                is_complete = False
        return given, is_complete

    async def _steps(self, edge: str) -> AsyncIterator[_Step]:
        for source in (self._waiting, self._delayed):
            step = _Step()
            async for found in source(edge):
                self._add(step, found, await self._placed(edge, found))
                if step.is_full:
                    yield step
                    step = _Step()
            if step.n_messages or step.n_staying:
                yield step

    async def _waiting(self, edge: str) -> AsyncIterator[_Found]:
        first = b"-"
        while True:
            read = partial(self._range, self._broker.keys.edge(edge), first)
            entries, asked = await self._broker.paging.ask(read, MOST_PER_STEP)
            for entry_id, fields in entries:
                yield _Found(entry_id, fields)
            if len(entries) < asked:
                return
            first = b"(" + entries[-1][0]

    async def _range(self, key: str, first: bytes, n: int) -> list[Any]:
        return list(await self._broker.answer(b"XRANGE", key, first, b"+", b"COUNT", n))

    async def _delayed(self, edge: str) -> AsyncIterator[_Found]:
        keys = self._broker.keys
        due = {name: score async for name, score in scan(self._broker, b"ZSCAN", keys.delayed(edge))}
        names = list(due)
        for at in range(0, len(names), MOST_PER_STEP):
            some = names[at : at + MOST_PER_STEP]
            now_ms = await self._broker.now_ms()
            commands = [(b"HGET", keys.delayed_bodies(edge), name) for name in some]
            for name, value in zip(some, await self._broker.ask_each(commands), strict=True):
                if value is not None:  # one that is due stays delayed: it is promoted where it lives
                    due_ms = int(min(max(float(due[name]), 0), _LATEST_MS))
                    yield _Found(name, delayed_fields(value), max(1, due_ms - now_ms))

    def _add(self, step: _Step, found: _Found, output: Output) -> None:
        """Add a message to a step if it lives elsewhere, or stays with another header."""
        shard, edge = parse_address(output.edge)
        if shard is None:
            if output.header != dict(pairs(found.fields)).get(b"h", b""):
                (step.staying_delayed if found.delay_ms else step.staying).append((found.name, output.header))
            return
        waiting, delayed = step.outputs[shard]
        if found.delay_ms:
            delayed.append(output._replace(edge=edge, delay_ms=found.delay_ms))
            step.names.append(found.name)
        else:
            waiting.append(output._replace(edge=edge))
            step.ids.append(found.name)
        step.n_bytes += len(output.body) + len(output.header)

    async def _placed(self, edge: str, found: _Found) -> Output:
        """Where a message lives, as the edge of an output; the edge itself if it is to stay. Raises BodyElsewhere."""
        values = dict(pairs(found.fields))
        header, body = values.get(b"h", b""), values.get(b"b", b"")
        stays = Output(edge, header, body)
        if len(found.fields) != 4 or set(values) != {b"h", b"b"}:
            return stays
        try:
            Header.decode(header)
            delivery = await redeem(self._broker.claims, Delivery(Arrival(edge, "", 0), b"0-1", header, body))
            address, value = self._placing.place_of(delivery, self._broker.shard)
        except BodyElsewhere:
            raise
        except (ValueError, DecodeError):  # its stage will find that, wherever it is
            return stays
        if b" k=" in header and value:
            words = [word for word in header.split(b" ") if not word.startswith(b"k=")]
            header = b" ".join((*words, b"k=" + urlsafe_b64encode(value).rstrip(b"=")))
        return Output(address, header, body)

    async def _give(self, edge: str, step: _Step) -> bool:
        """Give what is in a step. False if something of it is gone: nothing was given now, but perhaps before."""
        broker, keys = self._broker, self._broker.keys
        shards = list(step.outputs)
        groups = [Group(edge, None, *step.outputs[shard], is_moved=True) for shard in shards]
        sent = packets(groups, shards)
        while True:
            consumers = sorted((await Workers(broker).consumers_of([edge]))[edge])
            leases = [as_stored(keys.lease(each)) for each in consumers]
            names = [keys.workers, keys.stats, *keys.of_edge(edge), *leases]
            counts = [len(each) for each in (step.ids, step.names, step.staying, step.staying_delayed, consumers)]
            staying = [word for pair in (*step.staying, *step.staying_delayed) for word in pair]
            # Each call begins an epoch: its connection may be another one each time.
            more_names, more = outbox_arguments(
                keys, sent, layout=broker.layout, nonce=new_nonce(broker.world), floor=0
            )
            arguments = GROUP, edge, *counts, *step.ids, *step.names, *staying, *map(as_stored, consumers)
            status, *about = await broker.script(scripts.GIVE, [*names, *more_names], *arguments, *more)
            if status in (_GIVEN, _GONE):  # gone: the reply to the same call was lost, or another process does the same
                return bool(status == _GIVEN)
            if status == _OTHER_LAYOUT:
                raise await has_changed(broker)
            if status == _SERVED:
                raise StillServed(
                    f"{edge} is still served by worker {text_in(about[0])}",
                    hint="stop the workers; one that was killed counts until its lease ends",
                )
