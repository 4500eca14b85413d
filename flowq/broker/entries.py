"""Reads dead, kept and waiting messages of a stream in replies that Redis can send, whatever their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from flowq.broker import scripts
from flowq.broker.paging import pass_over
from flowq.broker.records import DeadEntry, dead_entry
from flowq.broker.redis_streams import Broker
from flowq.delivery.message import Header
from flowq.errors import DecodeError, ReplyCutOff
from flowq.large_bodies.reference import is_claimed
from flowq.large_bodies.store import content_of

BodiesRead = Literal["all", "new", "none"]
"""Which bodies are read: all, only the new ones of edited letters, or none."""


class Entries:
    """The entries of one stream. `edited` is the key of the new bodies of its edited letters."""

    def __init__(self, broker: Broker, stream: str, edited: str | None = None) -> None:
        self._broker = broker
        self._stream = stream
        self._names = [stream] if edited is None else [stream, edited]

    async def after(self, entry_id: str, *, limit: int, bodies: BodiesRead) -> list[DeadEntry]:
        """The first `limit` entries after an id, "" for the beginning; fewer only at the end.

        An entry that is too large for a reply of Redis is named in the log and left out.
        """
        found: list[DeadEntry] = []
        while (wanted := limit - len(found)) > 0:
            first = f"({entry_id}" if entry_id else "-"
            try:
                page, asked = await self._broker.paging.ask(partial(self._read, first, bodies), wanted)
                found += page
            except ReplyCutOff:
                page, asked = await self._read(first, "none", 1), 1
                for entry in page:
                    pass_over(f"{entry.entry_id} of {self._stream}")
            if len(page) < asked:
                break
            entry_id = page[-1].entry_id
        return found

    async def named(self, ids: Sequence[str], *, bodies: BodiesRead = "all") -> list[DeadEntry]:
        """The entries with these ids, as far as they exist; one that Redis cannot send comes without its body."""
        found: list[DeadEntry] = []
        pages = await self._broker.paging.of_each(ids, partial(self._page, bodies=bodies))
        for entry_id, entries in zip(ids, pages, strict=True):
            found += (await self._page([entry_id], "none"))[0] if entries is None else entries
        return found

    async def with_contents(self, entries: Sequence[DeadEntry]) -> list[DeadEntry]:
        """These entries with the bodies that are in the claim store, as far as they can be read here."""
        return [await self._with_content(entry) if is_claimed(entry.header) else entry for entry in entries]

    async def _with_content(self, entry: DeadEntry) -> DeadEntry:
        if entry.body is None or entry.is_edited:
            return entry
        try:
            content = await content_of(self._broker.claims, Header.decode(entry.header), entry.body)
        except (DecodeError, ValueError):
            return entry
        return replace(entry, content=content)

    async def _page(self, ids: Sequence[str], bodies: BodiesRead = "all") -> list[list[DeadEntry]]:
        by_id = {entry.entry_id: entry for entry in await self._read("", bodies, *ids)}
        return [[by_id[entry_id]] if entry_id in by_id else [] for entry_id in ids]

    async def _read(self, first: str, bodies: BodiesRead, *rest: Any) -> list[DeadEntry]:
        reply = await self._broker.script(scripts.READ_LETTERS, self._names, bodies, first, *rest)
        return [dead_entry(entry_id, fields, *edited) for entry_id, fields, *edited in reply]
