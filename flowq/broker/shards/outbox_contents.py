"""Looks into outboxes: what is in transit from a shard to others, message by message, without removing anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hiredis import Reader

from flowq.broker.records import pairs
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.outbox import parse_descriptor
from flowq.delivery.stored import count_in, text_in


@dataclass(frozen=True, slots=True)
class Sent:
    """A message in an outbox: the edge that it is for, and its header."""

    edge: str
    header: bytes


async def sent_after(broker: Broker, to: int, entry_id: str, most: int) -> tuple[list[Sent], str]:
    """Messages in the outbox for a shard after an entry, "" for the first; and where to go on, "" at the end.

    Reads `most` entries, each with up to some hundred messages. Those that another program has written are left out.
    """
    first = f"({entry_id}" if entry_id else "-"
    entries: Sequence[Any] = await broker.answer(b"XRANGE", broker.keys.outbox_of(str(to)), first, b"+", b"COUNT", most)
    stored = [dict(pairs(fields)) for _, fields in entries]
    found = [sent for each in stored for sent in messages_of(count_in(each.get(b"w", b"")), each.get(b"c", b""))]
    return found, text_in(entries[-1][0]) if len(entries) == most else ""


async def applied_up_to(broker: Broker, source: int) -> str:
    """The last entry of the outbox of another shard that this one has applied; "" if it has applied none."""
    stored = await broker.answer(b"HGET", broker.keys.inbox, source)
    return text_in(stored or b"").partition(" ")[0]


def messages_of(n_words: int, call: bytes) -> Iterator[Sent]:
    """The messages of an entry, by the words of its call; those before what another program has spoiled."""
    reader = Reader()
    reader.feed(call)
    words: list[Any] = [reader.gets() for _ in range(n_words)]
    at = 1
    try:
        for _ in range(int(words[0])):
            edge, memory = parse_descriptor(text_in(words[at]))
            n_outputs, n_delayed = int(words[at + 1]), int(words[at + 2])
            at += 4
            width = 2 if memory is None else 3
            for n, each in ((n_outputs, width), (n_delayed, width + 1)):
                yield from (Sent(edge, words[at + number * each]) for number in range(n))
                at += n * each
    except (IndexError, ValueError, TypeError):
        return
