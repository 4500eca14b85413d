"""What to do next on a channel, from one shard to another: offer, read, ask, remove. Decisions only."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from flowq.broker.records import pairs
from flowq.broker.shards.outbox import Entry
from flowq.delivery.placement import MOST_SHARDS

MOST_ENTRIES, MOST_MESSAGES, MOST_BYTES = 200, 5_000, 4_000_000
"""What one call may carry: it holds up everything else in the target."""
CLOGGED_MESSAGES, CLOGGED_BYTES = 20_000, 64_000_000
LARGEST_EPOCH = 2**52 - 1
"""Of the year 2109: `parts/outboxes.lua` gives none above it."""
_POSITION = re.compile(rb"(\d{1,16})-(\d{1,15}) (\d{1,15})")
_MOST_REMEMBERED_BYTES = 16_000_000
_PATIENCE_SECONDS = 0.05
_FIRST_HOPE_SECONDS = 0.002
_GAP_SECONDS = 3.0
_GAP_LOOK_SECONDS = 0.3
_WEIGHT = 0.1


class EntryId(NamedTuple):
    """The id of an entry in an outbox. Ids grow, also over a failover that forgets: a later epoch is higher."""

    epoch: int
    number: int

    @classmethod
    def parse(cls, text: bytes) -> Self:
        epoch, _, number = text.partition(b"-")
        return cls(int(epoch), int(number))

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}"

    @property
    def following(self) -> str:
        """The lowest id above this one."""
        return f"{self.epoch}-{self.number + 1}"


class Mark(NamedTuple):
    """A position in a channel: an entry, and how many messages were sent up to and with it."""

    id: EntryId
    total: int

    @classmethod
    def parse(cls, text: bytes | None) -> Self:
        """As `heads` and `inbox` store it. What another program has written there is the beginning, as for scripts."""
        found = _POSITION.fullmatch(text or b"")
        epoch, number, total = map(int, found.groups()) if found else (0, 0, 0)
        is_given = epoch <= LARGEST_EPOCH
        return cls(EntryId(epoch, number), total) if is_given else cls(EntryId(0, 0), 0)


BEGINNING = Mark(EntryId(0, 0), 0)


def marks_in(reply: Sequence[bytes], n_shards: int = MOST_SHARDS) -> Mapping[int, Mark]:
    """What `heads` or `inbox` says of each shard. Other programs may have written fields that name none."""
    fields = ((int(name), mark) for name, mark in pairs(reply) if name.isdigit() and len(name) <= 2)
    return {shard: Mark.parse(mark) for shard, mark in fields if shard < n_shards}


@dataclass(frozen=True, slots=True)
class Offer:
    """Have the target apply these entries."""

    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Read:
    """Read the outbox after the first id, up to and with the second, and offer that."""

    after: EntryId
    up_to: EntryId


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the target what it has applied."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again after this time, or when something changes."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Bridge:
    """The target has forgotten what it was certain to have. Count it as lost, and go on behind this cursor."""

    gap: Mark


Step = Offer | Read | Ask | Wait | Bridge
"""What to do next; None is nothing."""


class _Remembered(NamedTuple):
    id: EntryId
    before: EntryId
    entry: Entry


class Channel:
    """What a forwarder knows of one channel.

    Memory holds bytes, never facts: what is sent follows from `head`, which the source has confirmed, and from
    `cursor`, which the target has answered. Entries remembered from a primary that was replaced would be duplicates.
    """

    def __init__(self, to: int) -> None:
        self.to = to
        self.head = BEGINNING  # what may be offered
        self.cursor: Mark | None = None  # what the target has applied; None is unknown
        self._memory = list[_Remembered]()  # in order
        self._memory_bytes = 0
        self._sent = BEGINNING.total  # noted here, perhaps not confirmed yet
        self._bytes_each = 0.0  # of a message, as a moving average
        self._missing_since: float | None = None
        self._hope_seconds, self._hope_at = _FIRST_HOPE_SECONDS, 0.0
        self._has_asked = False
        self._most_entries = MOST_ENTRIES  # fewer while calls are more than the target accepts
        self._gap: tuple[EntryId, float] | None = None  # the cursor at which it was found, and when
        self._look_at_gap_at = 0.0

    @property
    def in_transit(self) -> int:
        """How many messages are sent and not applied, as far as known."""
        return max(0, self.head.total - (self.cursor or BEGINNING).total)

    @property
    def is_clogged(self) -> bool:
        """Whether more is in transit than there ever is to a target that answers."""
        n = max(self.head.total, self._sent) - (self.cursor or BEGINNING).total
        return n > CLOGGED_MESSAGES or n * self._bytes_each > CLOGGED_BYTES

    @property
    def remembers(self) -> bool:
        """Whether entries in memory wait to be applied."""
        return bool(self._memory)

    # What happens

    def remember(self, entry: Entry) -> None:
        """Keep an entry that has just been put into the outbox, if there is room. It can be read back."""
        added = _Remembered(EntryId.parse(entry.id), EntryId.parse(entry.before), entry)
        self._note_size(entry)
        at = bisect_left(self._memory, added.id, key=_id_of)
        is_known = at < len(self._memory) and self._memory[at].id == added.id
        if not is_known and self._memory_bytes < _MOST_REMEMBERED_BYTES:
            self._memory.insert(at, added)
            self._memory_bytes += len(entry.call)

    def _note_size(self, entry: Entry) -> None:
        n = entry.total - self._sent
        if 0 < n < CLOGGED_MESSAGES:
            self._bytes_each += (len(entry.call) / n - self._bytes_each) * _WEIGHT
        self._sent = entry.total

    def confirmed(self, head: Mark) -> None:
        """The source is certain to remember everything up to here. After a failover it may be less than before."""
        self.head = head

    def answered(self, cursor: Mark) -> None:
        """The target says what it has applied."""
        if self.cursor is None or cursor.id != self.cursor.id:
            self._missing_since, self._hope_seconds = None, _FIRST_HOPE_SECONDS
        if self._gap is not None and self._gap[0] != cursor.id:
            self._gap = None
        self.cursor, self._has_asked = cursor, True
        n = bisect_right(self._memory, cursor.id, key=_id_of)
        self._memory_bytes -= sum(len(each.entry.call) for each in self._memory[:n])
        del self._memory[:n]

    def refused(self, now: float) -> None:
        """The target lacks what comes before the first entry of memory that was offered."""
        self._hope_at = now + self._hope_seconds
        self._hope_seconds *= 2

    def fitted(self) -> None:
        """The target has taken a call: the next one may carry more."""
        self._most_entries = min(MOST_ENTRIES, 2 * self._most_entries)

    def was_too_much(self, n_entries: int) -> None:
        """The target has refused a call with so many entries for its size: the next one carries half of them."""
        self._most_entries = max(1, n_entries // 2)

    def found_gap(self, now: float) -> None:
        """The target lacks what comes before the first entry that the outbox still has."""
        assert self.cursor is not None
        if self._gap is None:
            self._gap = self.cursor.id, now
        self._look_at_gap_at = now + _GAP_LOOK_SECONDS
        self._has_asked = False

    def lost_touch(self) -> None:
        """The connection to the target has ended: the next one may lead to a server that has forgotten."""
        self.cursor, self._missing_since = None, None

    # What to do

    def next_step(self, now: float) -> Step | None:
        """What to do now; None until something changes."""
        if self.head == BEGINNING:
            return None
        if self.cursor is None:
            return Ask()
        if self.head.id <= self.cursor.id:
            self._missing_since = None
            return None
        if self._gap is not None:
            return self._step_at_gap(self.cursor, self._gap[1], now)
        chain = self._proven_chain()
        if chain and chain[0].before == self.cursor.id:
            return Offer(self.within_limits([each.entry for each in chain], self.cursor.total))
        if self._missing_since is None:
            self._missing_since, self._has_asked = now, False
        patience = self._missing_since + _PATIENCE_SECONDS - now
        if patience <= 0:
            return Read(self.cursor.id, self.head.id) if self._has_asked else Ask()
        if not chain:
            return Wait(patience)
        if now < self._hope_at:
            return Wait(min(patience, self._hope_at - now))
        entries = [each.entry for each in chain]  # another forwarder may have sent what is missing
        return Offer(self.within_limits(entries, entries[0].total))

    def _step_at_gap(self, cursor: Mark, since: float, now: float) -> Step:
        if now < self._look_at_gap_at:
            return Wait(self._look_at_gap_at - now)
        if not self._has_asked:
            return Ask()
        return Bridge(cursor) if now - since >= _GAP_SECONDS else Read(cursor.id, self.head.id)

    def _proven_chain(self) -> Sequence[_Remembered]:
        """The first entries in memory of which each follows the other, up to one in the epoch of the confirmed head.

        That one is part of what the source has confirmed, and so is what it says comes before it. An entry of an
        earlier epoch by itself proves nothing: the source may have forgotten it.
        """
        n_proven = 0
        for n, each in enumerate(self._memory):
            is_next = not n or each.before == self._memory[n - 1].id
            if not is_next or each.id > self.head.id or n_proven == MOST_ENTRIES:
                break
            if each.id.epoch == self.head.id.epoch:
                n_proven = n + 1
        return self._memory[:n_proven]

    def within_limits(self, entries: Sequence[Entry], total_before: int) -> Sequence[Entry]:
        """As many of the first of these entries as one call may carry, at least one."""
        n_bytes = 0
        for n, entry in enumerate(entries[: self._most_entries]):
            n_bytes += len(entry.call)
            if n and (n_bytes > MOST_BYTES or entry.total - total_before > MOST_MESSAGES):
                return entries[:n]
        return entries[: self._most_entries]


def _id_of(each: _Remembered) -> EntryId:
    return each.id
