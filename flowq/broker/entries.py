"""Reads dead, kept and waiting messages of a stream, however large they are and however small the replies of Redis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from flowq.broker import scripts
from flowq.broker.paging import pass_over
from flowq.broker.records import DeadEntry, dead_entry
from flowq.delivery.stored import text_in
from flowq.errors import ReplyCutOff

if TYPE_CHECKING:
    from flowq.broker.client.connection import Command
    from flowq.broker.redis_streams import Broker

Bodies = Literal["all", "new", "none"]
"""Which bodies are read: all, only those that letters were amended to, none."""


async def entries_after(
    broker: Broker, names: Sequence[str], *, after: str, limit: int, bodies: Bodies
) -> list[DeadEntry]:
    """The first `limit` entries behind the id `after`; fewer only at the end. `names`: a stream, its amended bodies.

    An entry that Redis cannot send by itself is named in the log and left out.
    """
    found: list[DeadEntry] = []
    while (wanted := limit - len(found)) > 0:
        read = partial(_read, broker, names, f"({after}" if after else "-")
        try:
            page, asked = await broker.paging.ask(partial(read, bodies), wanted)
            found += page
        except ReplyCutOff:
            page, asked = await read("none", 1), 1
            for entry in page:
                pass_over(f"{entry.entry_id} of {names[0]}")
        if len(page) < asked:
            break
        after = page[-1].entry_id
    return found


async def dead_entries(
    broker: Broker, stage: str, *, after: str = "", limit: int = 1000, bodies: bool = True
) -> list[DeadEntry]:
    """Dead letters of a stage in the order in which they died, those after the entry id `after`."""
    names = [broker.keys.dead(stage), broker.keys.amended(stage)]
    return await entries_after(broker, names, after=after, limit=limit, bodies="all" if bodies else "new")


async def entries_named(broker: Broker, stage: str, ids: Sequence[str]) -> list[DeadEntry]:
    """The dead letters of a stage with these ids, as far as they exist; one that Redis cannot send without its body."""
    names = [broker.keys.dead(stage), broker.keys.amended(stage)]

    async def page(some: Sequence[str], bodies: Bodies = "all") -> list[list[DeadEntry]]:
        entries = await _read(broker, names, "", bodies, *some)
        by_id = {entry.entry_id: entry for entry in entries}
        return [[by_id[entry_id]] if entry_id in by_id else [] for entry_id in some]

    found: list[DeadEntry] = []
    for entry_id, entries in zip(ids, await broker.paging.of_each(ids, page), strict=True):
        found += (await page([entry_id], "none"))[0] if entries is None else entries
    return found


async def each_of(broker: Broker, commands: Sequence[Command]) -> list[Any]:
    """The reply to each command that reads one message; None for an error. One that does not arrive is passed over."""

    async def ask(some: Sequence[Command]) -> list[tuple[Any]]:
        return [(reply,) for reply in await broker.ask(some)]

    replies: list[Any] = []
    for command, answer in zip(commands, await broker.paging.of_each(commands, ask), strict=True):
        if answer is None:
            pass_over(f"{text_in(command[2])} of {command[1]}")
        replies.append(None if answer is None or isinstance(answer[0], Exception) else answer[0])
    return replies


async def _read(broker: Broker, names: Sequence[str], first: str, bodies: Bodies, *rest: Any) -> list[DeadEntry]:
    reply = await broker.script(scripts.READ_DEAD, names, bodies, first, *rest)
    return [dead_entry(entry_id, fields, *amended) for entry_id, fields, *amended in reply]
