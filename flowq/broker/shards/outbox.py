"""What a call puts into outboxes: its messages for other shards, as the words of a call that applies them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from flowq.broker.client.redis_protocol import pack_command
from flowq.broker.keys import Keys
from flowq.broker.publishing import add_messages, memory_arguments
from flowq.broker.settling import each_value_once
from flowq.delivery.policy import DedupMemory
from flowq.delivery.settlement import Output
from flowq.world import World


class Group(NamedTuple):
    """The messages of one call for one edge of another shard. `is_moved`: they lay on that edge in this one."""

    edge: str
    memory: DedupMemory | None
    outputs: Sequence[Output]
    delayed: Sequence[Output] = ()
    is_moved: bool = False


@dataclass(frozen=True, slots=True)
class Packet:
    """What one call puts into one outbox as one entry.

    `call`: words for `apply.lua`, as RESP bulk strings, so that a forwarder sends them on without reading them.
    `edges`: a line for each edge, from which follows which keys that call needs.
    """

    to: int
    edges: bytes
    n_words: int
    call: bytes
    n_messages: int


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of an outbox. `before` is the id of the one before it, `total` how many messages were sent up to it."""

    to: int
    id: bytes
    before: bytes
    total: int
    edges: bytes
    n_words: int
    call: bytes
    n_messages: int


MOST_ENTRY_BYTES = 800_000
"""What an entry holds, unless it is a single message: any Redis accepts as much, whatever its limits are set to."""
_BYTES_BESIDE = 100
_MOVED = "moved"
_NONCES = 1024
OnSent = Callable[[Sequence[Entry]], None]
"""Told about the entries that a call has put into outboxes."""


def descriptor(edge: str, memory: DedupMemory | None, *, is_moved: bool = False) -> str:
    """An edge with what `apply.lua` has to know about its stage: see `memory_arguments`; then the names of its places.

    >>> descriptor("fetch>parse", DedupMemory(60_000, hash_bytes=9))
    'fetch>parse 60000 9 '
    """
    seen_ms, n_bytes, _ = memory_arguments(memory)
    return f"{edge} {seen_ms} {n_bytes} {_MOVED if is_moved else ','.join(memory.places) if memory else ''}"


def parse_descriptor(text: str) -> tuple[str, DedupMemory | None]:
    """The edge, and what `Keys.of_target` needs to know about the memory of its stage.

    >>> parse_descriptor("fetch>parse -1 16 >parse,fetch>parse")
    ('fetch>parse', DedupMemory(ttl_ms=None, places=('>parse', 'fetch>parse'), hash_bytes=16))
    """
    edge, seen_ms, n_bytes, places = text.split(" ")
    if seen_ms == "0":
        return edge, None
    ttl_ms = None if seen_ms == "-1" else int(seen_ms)
    return edge, DedupMemory(ttl_ms, tuple(places.split(",")) if places else (), int(n_bytes))


def packets(groups: Sequence[Group], shards: Sequence[int]) -> list[Packet]:
    """Packets for these shards, in order of their numbers; `groups[i]` goes to `shards[i]`.

    One for each, or several of `MOST_ENTRY_BYTES` at most: in one, messages that the target would take one by one could
    be more than it takes, and what comes behind it would wait.
    """
    by_shard: dict[int, list[Group]] = {}
    for shard, group in zip(shards, groups, strict=True):
        by_shard.setdefault(shard, []).append(group)
    return [_packet(shard, part) for shard in sorted(by_shard) for part in _parts(by_shard[shard])]


def _parts(groups: Sequence[Group]) -> Iterator[Sequence[Group]]:
    """The messages of groups in the same order, in parts that are small enough for an entry."""
    if sum([_size(each) for group in groups for each in (*group.outputs, *group.delayed)]) <= MOST_ENTRY_BYTES:
        yield groups
        return
    part, n_bytes = list[Group](), 0
    for group in groups:
        for is_delayed, messages in enumerate((group.outputs, group.delayed)):
            first = 0
            for n, message in enumerate(messages):
                size = _size(message)
                if n_bytes and n_bytes + size > MOST_ENTRY_BYTES:
                    yield [*part, *_piece(group, messages[first:n], is_delayed=bool(is_delayed))]
                    part, n_bytes, first = [], 0, n
                n_bytes += size
            part += _piece(group, messages[first:], is_delayed=bool(is_delayed))
    yield part


def _piece(group: Group, messages: Sequence[Output], *, is_delayed: bool) -> list[Group]:
    """Some messages of a group, as a group of their own; none if there are none."""
    if not messages:
        return []
    empty = list[Output]()
    return [group._replace(outputs=empty if is_delayed else messages, delayed=messages if is_delayed else empty)]


def _size(message: Output) -> int:
    return len(message.header) + len(message.body) + _BYTES_BESIDE


def _packet(to: int, groups: Sequence[Group]) -> Packet:
    words: list[Any] = [len(groups)]
    descriptors, n_messages = dict[str, None](), 0
    for group in groups:
        memory, outputs = group.memory, group.outputs
        if memory and not memory.places:
            outputs = each_value_once(outputs)
        n_all = len(group.outputs) + len(group.delayed)
        named = descriptor(group.edge, memory, is_moved=group.is_moved)
        words += (named, len(outputs), len(group.delayed), len(group.outputs) - len(outputs))
        add_messages(words, outputs, memory=memory)
        add_messages(words, group.delayed, memory=memory, delays=True)
        descriptors[named] = None
        n_messages += n_all
    return Packet(to, "\n".join(descriptors).encode(), len(words), packed(words), n_messages)


def packed(words: Sequence[Any]) -> bytes:
    """Words of a command in the form in which they are sent to Redis.

    >>> packed(["GET", "x"])
    b'$3\\r\\nGET\\r\\n$1\\r\\nx\\r\\n'
    """
    command = pack_command(tuple(words))
    return command[command.index(b"\n") + 1 :]


def new_nonce(world: World) -> int:
    """A part of the number of an epoch, so that those which begin in the same millisecond hardly ever have the same."""
    return int(world.random() * _NONCES)


def outbox_arguments(
    keys: Keys, sent: Sequence[Packet], *, layout: int | str, nonce: int, floor: int
) -> tuple[list[Any], list[Any]]:
    """Further keys and arguments of a script that puts these into outboxes: what `take_outboxes` reads.

    `nonce`: see `new_nonce`, or -1 if the connection has begun an epoch. `floor`: the highest epoch known.
    """
    names: list[Any] = [keys.outbox_of(str(packet.to)) for packet in sent]
    arguments: list[Any] = []
    for packet in sent:
        arguments += (packet.to, packet.edges, packet.n_messages, packet.n_words, packet.call)
    return [*names, keys.heads], [*arguments, layout, nonce, floor, len(sent)]


def entries(sent: Sequence[Packet], put: Sequence[bytes]) -> list[Entry]:
    """The entries of these packets. `put`: what the script says of each, nothing at all if it has settled nothing."""
    return [_entry(packet, *line.split(b" ")) for packet, line in zip(sent, put, strict=False)]


def _entry(packet: Packet, own_id: bytes, before: bytes, total: bytes) -> Entry:
    return Entry(packet.to, own_id, before, int(total), packet.edges, packet.n_words, packet.call, packet.n_messages)
