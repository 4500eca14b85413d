"""Works on dead and kept messages: reads them, amends, removes, restores, puts them back, each in one atomic step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from flowq.broker import scripts
from flowq.broker.entries import entries_after
from flowq.broker.publishing import PUBLISH_WINDOW_MS
from flowq.broker.records import DeadEntry
from flowq.broker.redis_streams import Broker
from flowq.delivery.dead_letter import dead_letter_info
from flowq.delivery.message import Delivery
from flowq.delivery.settlement import DeadLetter

_RESTORE_WINDOW_MS = 3_600_000


class WayBack(NamedTuple):
    """How a dead letter goes back: its header for the next attempt, the run it died in, and when it is due.

    `body` replaces the letter's own. A letter that was amended goes back only with the body given here.
    """

    entry_id: str
    header: bytes
    run: str
    delay_ms: int = 0
    body: bytes | None = None


class Exported(NamedTuple):
    """A dead letter as it was exported; `token` makes sure that it is added once, `entry_id` is the one it had."""

    token: str
    entry_id: str
    edge: str
    header: bytes
    body: bytes
    info: bytes


async def kept_entries(
    broker: Broker, stage: str, *, after: str = "", limit: int = 1000, bodies: bool = True
) -> list[DeadEntry]:
    """Messages that a stage has settled and kept, in that order, those after the entry id `after`."""
    return await entries_after(
        broker, [broker.keys.kept(stage)], after=after, limit=limit, bodies="all" if bodies else "none"
    )


async def bury(broker: Broker, stage: str, delivery: Delivery, letter: DeadLetter) -> None:
    """Add a dead letter for a message that is no longer in its stream."""
    keys = broker.keys
    info = orjson.dumps(dead_letter_info(letter, delivery, broker.run_id))
    token = f"dead:{delivery.edge}:{delivery.entry_id.decode()}"
    await broker.script(
        scripts.BURY, [keys.stats, keys.published, keys.dead(stage)],
        stage, delivery.edge, token, PUBLISH_WINDOW_MS,
        delivery.header_for_letter(letter.header), delivery.body, info,
    )  # fmt: skip


async def put_back(broker: Broker, stage: str, edge: str, letters: Sequence[WayBack]) -> int:
    """Put letters of a stage on an edge. Returns how many were still there, as the caller had seen them."""
    keys = broker.keys
    flat: list[Any] = []
    for letter in letters:
        body = b"" if letter.body is None else b"=" + letter.body
        flat += (letter.entry_id, letter.header, letter.run, letter.delay_ms, body)
    names = [
        keys.stats, keys.run, keys.dead(stage), keys.amended(stage),
        keys.edge(edge), keys.delayed(edge), keys.delayed_bodies(edge), keys.restored(stage),
    ]  # fmt: skip
    leaves_the_dead = stage if edge.rpartition(">")[2] == stage else ""
    n: int = await broker.script(scripts.PUT_BACK, names, leaves_the_dead, edge, *flat)
    return n


async def amend(broker: Broker, stage: str, bodies: Sequence[tuple[str, bytes]]) -> list[bool]:
    """Give letters the bodies with which they shall run again: whether each was still there."""
    names = [broker.keys.dead(stage), broker.keys.amended(stage)]
    flat = [value for letter in bodies for value in letter]
    return [bool(there) for there in await broker.script(scripts.AMEND, names, *flat)]


async def remove(broker: Broker, stage: str, ids: Sequence[str]) -> int:
    """Remove letters for good. Returns how many were still there."""
    names = [broker.keys.dead(stage), broker.keys.amended(stage), broker.keys.restored(stage)]
    n: int = await broker.script(scripts.REMOVE_DEAD, names, *ids)
    return n


async def restore(broker: Broker, stage: str, letters: Sequence[Exported]) -> int:
    """Add letters that were exported. Returns how many were not there and had not been added in the last hour."""
    names = [broker.keys.published, broker.keys.dead(stage), broker.keys.restored(stage)]
    flat = [value for letter in letters for value in letter]
    n: int = await broker.script(scripts.RESTORE_DEAD, names, _RESTORE_WINDOW_MS, *flat)
    return n
