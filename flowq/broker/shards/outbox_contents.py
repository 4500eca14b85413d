"""Looks into outboxes: what is in transit from a shard to others, message by message, without removing anything."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from flowq.broker.records import pairs
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.outbox import Entry, parse_descriptor
from flowq.delivery.stored import text_in

_ID, _NUMBER = re.compile(rb"\d{1,16}-\d{1,15}"), re.compile(rb"\d{1,15}")
_DESCRIPTOR = re.compile(rb"\S+ (0 0 (moved)?|(-1|[1-9]\d*) ([5-9]|1[0-6]) \S*)")
_LENGTH = re.compile(rb"\$(0|[1-9]\d{0,9})\r\n")
_HEADER = re.compile(rb"\S+( [^\n]*)?")
_VALUE_BYTES = 16


class Sent(NamedTuple):
    """A message in an outbox: the edge that it is for, and its header."""

    edge: str
    header: bytes


async def sent_after(broker: Broker, to: int, entry_id: str, most: int) -> tuple[list[Sent], str]:
    """Messages in the outbox for a shard after an entry, "" for the first; and where to go on, "" at the end.

    Reads `most` entries, each with up to some hundred messages. Those that another program has written are left out.
    """
    first = f"({entry_id}" if entry_id else "-"
    stored: Sequence[Any] = await broker.answer(b"XRANGE", broker.keys.outbox_of(str(to)), first, b"+", b"COUNT", most)
    entries = [stored_entry(to, own_id, dict(pairs(fields))) for own_id, fields in stored]
    found = [sent for entry in entries if entry is not None for sent in contents_of(entry.call).messages]
    return found, text_in(stored[-1][0]) if len(stored) == most else ""


async def applied_up_to(broker: Broker, source: int) -> str:
    """The last entry of the outbox of another shard that this one has applied; "" if it has applied none."""
    stored = await broker.answer(b"HGET", broker.keys.inbox, source)
    return text_in(stored or b"").partition(" ")[0]


def stored_entry(to: int, entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry | None:
    """An entry as it was put into an outbox; None for one that no script has put there.

    What another program has written is sent to no shard: it could be no call at all, or more than one.
    """
    try:
        before, total, edges, n_words, call = (fields[name] for name in (b"p", b"n", b"e", b"w", b"c"))
        contents = contents_of(call)
    except (KeyError, ValueError):
        return None
    is_sound = (
        _ID.fullmatch(before)
        and _NUMBER.fullmatch(total)
        and n_words == b"%d" % contents.n_words
        and edges == b"\n".join(contents.descriptors)
    )
    if not is_sound:
        return None
    return Entry(to, entry_id, before, int(total), edges, contents.n_words, call, contents.n_messages)


@dataclass(frozen=True, slots=True)
class Contents:
    """What the words of an entry say. `n_messages` counts those that were left out as duplicates too."""

    n_words: int
    descriptors: Sequence[bytes]
    messages: Sequence[Sent]
    n_messages: int


def contents_of(call: bytes) -> Contents:
    """The contents of an entry, by its call. Raises ValueError for bytes that are no call of `apply.lua`."""
    words = _words(call)
    (n_groups,), at = _numbers(words[:1]), 1
    descriptors, messages, n_left_out = dict[bytes, None](), list[Sent](), 0
    for _ in range(min(n_groups, len(words))):
        n_outputs, n_delayed, n_repeated = _numbers(words[at + 1 : at + 4])
        named = words[at]
        if _DESCRIPTOR.fullmatch(named) is None:
            raise ValueError(named)
        edge, memory = parse_descriptor(named.decode())
        at += 4
        for n, is_delayed in ((n_outputs, False), (n_delayed, True)):
            width = 2 + (memory is not None) + is_delayed
            end = at + n * width
            if end > len(words):
                raise ValueError(named)
            messages += [_message(edge, words[each : each + width], is_delayed) for each in range(at, end, width)]
            at = end
        descriptors[named] = None
        n_left_out += n_repeated
    if at != len(words) or not descriptors:
        raise ValueError("the words do not add up")
    return Contents(len(words), list(descriptors), messages, len(messages) + n_left_out)


def _words(call: bytes) -> list[bytes]:
    # No parser of RESP: it would make room for whatever length is announced, and read more than bulk strings.
    words, at = list[bytes](), 0
    while at < len(call):
        length = _LENGTH.match(call, at)
        end = length.end() + int(length[1]) if length else len(call)
        if length is None or call[end : end + 2] != b"\r\n":
            raise ValueError("no words")
        words.append(call[length.end() : end])
        at = end + 2
    return words


def _numbers(words: Sequence[bytes]) -> list[int]:
    # Python reads more as a number than Lua does: other digits, underscores, spaces.
    if not all(map(_NUMBER.fullmatch, words)):
        raise ValueError("no numbers")
    return [int(word) for word in words]


def _message(edge: str, words: Sequence[bytes], is_delayed: bool) -> Sent:
    header, value, delay = words[0], words[2 : len(words) - is_delayed], words[len(words) - is_delayed :]
    if _HEADER.fullmatch(header) is None or (any(value) and len(value[0]) != _VALUE_BYTES):
        raise ValueError(edge)
    if is_delayed and not delay[0].isdigit():
        raise ValueError(edge)
    return Sent(edge, header)
