"""The dead letters of a stage as Redis stores them: reads, edits, removes, restores them, and puts them back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson

from flowq.broker import scripts
from flowq.broker.entries import Entries
from flowq.broker.publishing import PUBLISH_WINDOW_MS
from flowq.broker.records import DeadEntry, dead_entry
from flowq.broker.redis_streams import Broker
from flowq.delivery.dead_letter import dead_letter_info
from flowq.delivery.edge import Edge
from flowq.delivery.message import Delivery
from flowq.delivery.settlement import DeadLetter
from flowq.delivery.stored import is_entry_id

_RESTORE_WINDOW_MS = 3_600_000
_MOST_BYTES = 1_000_000


class WayBack(NamedTuple):
    """How a dead letter goes back: its header for the next attempt, the run it died in, and when it is due.

    `body` replaces the letter's own. A letter that was edited goes back only with a body given here. `home` is the
    shard that it goes to, if that is not the one of its letter; then it has a body.
    """

    entry_id: str
    header: bytes
    run: str
    delay_ms: int = 0
    body: bytes | None = None
    home: int | None = None


class Exported(NamedTuple):
    """An exported dead letter; `token` makes sure that it is added once, `entry_id` is its former id."""

    token: str
    entry_id: str
    edge: str
    header: bytes
    body: bytes
    info: bytes


class StoredLetters:
    """The dead letters of one stage. Each method except `read` and `named` is one atomic step."""

    def __init__(self, broker: Broker, stage: str) -> None:
        self._broker = broker
        self._stage = stage
        keys = broker.keys
        self._dead, self._edited, self._restored = keys.dead(stage), keys.edited(stage), keys.restored(stage)
        self._entries = Entries(broker, self._dead, self._edited)

    async def read(self, *, after: str = "", limit: int = 1000, bodies: bool = True) -> list[DeadEntry]:
        """Letters in the order in which they died, those after the entry id `after`."""
        entries = await self._entries.after(after, limit=limit, bodies="all" if bodies else "new")
        return await self._entries.with_contents(entries) if bodies else entries

    async def before(self, entry_id: str, *, limit: int) -> tuple[list[DeadEntry], bool]:
        """The letters before an id, the newest first, "" for the newest of all; and whether there are none before them.

        Fewer than `limit` if they are large. A body above a megabyte is left out, and so are fields of other programs.
        """
        first = f"({entry_id}" if entry_id else "+"
        read = partial(self._broker.script, scripts.LETTERS_BEFORE, [self._dead, self._edited], first)
        (is_all, *found), _ = await self._broker.paging.ask(lambda n: read(n, _MOST_BYTES), limit)
        return [dead_entry(at, fields, *new_body) for at, fields, *new_body in found], is_all == 1

    async def named(self, ids: Sequence[str], *, bodies: bool = True) -> list[DeadEntry]:
        """The letters with these ids, as far as they exist; one that Redis cannot send comes without its body."""
        there = [each for each in ids if is_entry_id(each)]  # one of several shards has other ids
        entries = await self._entries.named(there, bodies="all" if bodies else "new")
        return await self._entries.with_contents(entries) if bodies else entries

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Add a dead letter for a message that is no longer in its stream."""
        broker, keys, edge = self._broker, self._broker.keys, delivery.edge
        info = orjson.dumps(dead_letter_info(letter, delivery, broker.run_id))
        await broker.script(
            scripts.ADD_DEAD_LETTER, [keys.stats, keys.published, self._dead],
            self._stage, edge, f"dead:{edge}:{delivery.entry_id.decode()}", PUBLISH_WINDOW_MS,
            delivery.header_for_letter(letter.header), delivery.body, info,
        )  # fmt: skip

    async def put_back(self, edge: str, letters: Sequence[WayBack]) -> int:
        """Put letters on an edge. Returns how many still existed as the caller had seen them."""
        keys = self._broker.keys
        flat: list[Any] = []
        for letter in letters:
            body = b"" if letter.body is None else b"=" + letter.body
            flat += (letter.entry_id, letter.header, letter.run, letter.delay_ms, body)
        names = [keys.stats, keys.run, self._dead, self._edited, *keys.of_edge(edge), self._restored]
        no_longer_dead = self._stage if Edge.parse(edge).target == self._stage else ""
        n: int = await self._broker.script(scripts.PUT_BACK_LETTERS, names, no_longer_dead, edge, *flat)
        return n

    async def edit(self, bodies: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Store new bodies for the next attempt of letters. Returns whether each letter still exists."""
        flat = [value for letter in bodies for value in letter]
        return [
            bool(there) for there in await self._broker.script(scripts.EDIT_LETTERS, [self._dead, self._edited], *flat)
        ]

    async def remove(self, ids: Sequence[str]) -> int:
        """Remove letters permanently. Returns how many still existed."""
        n: int = await self._broker.script(scripts.REMOVE_LETTERS, [self._dead, self._edited, self._restored], *ids)
        return n

    async def restore(self, letters: Sequence[Exported]) -> int:
        """Add exported letters. Returns how many did not exist and had not been added in the last hour."""
        names = [self._broker.keys.published, self._dead, self._restored]
        flat = [value for letter in letters for value in letter]
        n: int = await self._broker.script(scripts.RESTORE_LETTERS, names, _RESTORE_WINDOW_MS, *flat)
        return n
