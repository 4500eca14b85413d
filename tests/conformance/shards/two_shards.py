"""Two shards of one pipeline on one server, with a worker in each, and what is under way between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hiredis import Reader

from flowq.broker import scripts
from flowq.broker.client.connection import Dialer
from flowq.broker.client.retrying import run_script
from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.outbox import Entry, parse_descriptor
from flowq.broker.shards.outbox_contents import stored_entry
from flowq.broker.shards.publishing_out import PublishingOut
from flowq.broker.shards.settling_out import SettlingOut
from flowq.delivery.policy import DedupMemory
from flowq.delivery.settlement import Output
from tests.conformance.worker import IN, OUT, Worker, output

THERE = f"1/{OUT}"
"""The edge behind `parse`, in the other shard."""


def crossing(body: bytes, *, dedup: str = "", delay_ms: int = 0) -> Output:
    """A message of shard 0 for shard 1."""
    return output(OUT, body, dedup=dedup, delay_ms=delay_ms)._replace(edge=THERE)


@dataclass
class Shard:
    """One shard, and a worker that reads in it. `sent` are the entries that it has put into outboxes."""

    worker: Worker
    settling: SettlingOut
    sent: list[Entry] = field(default_factory=list[Entry])

    @property
    def broker(self) -> Broker:
        return self.worker.broker

    @property
    def keys(self) -> Keys:
        return self.worker.broker.keys

    @property
    def publishing(self) -> PublishingOut:
        return PublishingOut(self.broker, on_sent=self.sent.extend)

    async def close(self) -> None:
        await self.settling.close()
        await self.worker.close()

    async def settle(self, *settled: Any, stage: str = "parse") -> Any:
        return await self.worker.settle(*settled, stage=stage, by=self.settling)

    async def fields(self, key: str) -> dict[bytes, bytes]:
        words = await self.broker.answer(b"HGETALL", key)
        return dict(zip(words[::2], words[1::2], strict=True))

    async def counters(self) -> dict[str, int]:
        return {name.decode(): int(n) for name, n in (await self.fields(self.keys.stats)).items()}

    async def outbox(self, to: int) -> list[Entry]:
        """What lies in an outbox."""
        stored = await self.broker.answer(b"XRANGE", self.keys.outbox_of(str(to)), b"-", b"+")
        entries = [
            stored_entry(to, own_id, dict(zip(words[::2], words[1::2], strict=True))) for own_id, words in stored
        ]
        return [entry for entry in entries if entry is not None]

    async def bodies(self, edge: str = OUT) -> list[bytes]:
        """What waits on an edge."""
        entries = await self.broker.answer(b"XRANGE", self.keys.edge(edge), b"-", b"+")
        return [dict(zip(words[::2], words[1::2], strict=True))[b"b"] for _, words in entries]


async def two_shards(
    dialer: Dialer, keys: Keys, *, memory: Mapping[str, DedupMemory] | None = None, keeps_answers: bool = False
) -> tuple[Shard, Shard]:
    """Shard 0 and shard 1. `memory`: what edges deduplicate, in both."""
    first = await Worker.sign_on(dialer, keys, "first", edges=(IN,))
    second = await Worker.sign_on(dialer, keys.in_shard(1), "second", edges=(OUT,))
    brokers = [first.broker, second.broker]
    for broker in brokers:
        broker.shards = brokers
        await broker.answer(b"HSET", broker.keys.heads, b"layout", 2)
    return await _shard(first, memory, keeps_answers), await _shard(second, memory, keeps_answers)


async def _shard(worker: Worker, memory: Mapping[str, DedupMemory] | None, keeps_answers: bool) -> Shard:
    sent: list[Entry] = []
    settling = SettlingOut(worker.broker, memory or {}, on_sent=sent.extend, keeps_answers=keeps_answers)
    await settling.connect()
    return Shard(worker, settling, sent)


async def apply(to: Shard, entries: Sequence[Entry], *, source: int = 0, layout: int = 2) -> Any:
    """Run the script that applies these entries in a shard."""
    keys = to.keys
    edges = list(dict.fromkeys(edge for entry in entries for edge in entry.edges.decode().split("\n")))
    names = [keys.stats, keys.heads, keys.inbox, keys.released]
    for edge in edges:
        names += keys.of_target(*parse_descriptor(edge))
    arguments: list[Any] = [source, layout, len(edges), len(entries), *edges]
    for entry in entries:
        arguments += (entry.id, entry.before, entry.total, *words_of(entry))
    return await run_script(to.broker.publishing, scripts.APPLY, names, arguments)


def words_of(entry: Entry) -> list[bytes]:
    """The words of its call."""
    reader = Reader()
    reader.feed(b"*%d\r\n" % entry.n_words + entry.call)
    return reader.gets()  # type: ignore[no-any-return]


def bodies_in(entry: Entry) -> list[bytes]:
    """The bodies of the messages for its first edge that are not delayed."""
    _, edge, n, *words = words_of(entry)
    width = 3 if parse_descriptor(edge.decode())[1] else 2
    return words[3 : 3 + width * int(n) : width]
