"""Reads why and when messages died, without the messages: a bounded number of bytes at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flowq.broker import scripts
from flowq.broker.records import letter_info, pairs
from flowq.broker.redis_streams import Broker
from flowq.delivery.stored import MOST_JSON_BYTES, text_in
from flowq.errors import ReplyCutOff

_MOST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class LetterInfos:
    """What dead letters of one stage record, by id in the order of the stream.

    `n_kept` is how many the stage has at that instant. `is_all`: it has none after these. `position` is where to go on,
    "" if nothing was read.
    """

    n_kept: int
    is_all: bool
    by_id: dict[str, Mapping[str, Any]]
    position: str = ""


async def letter_infos(
    broker: Broker, after: Mapping[str, str], *, limit: int, ids_only: bool = False
) -> tuple[int, Mapping[str, LetterInfos]]:
    """The time in ms, and for each stage the letters that come after an id, "" for the beginning.

    At most `limit` in total, and fewer if they are large. The reason is "unknown" if the info is too large, or was
    written by another program.
    """
    names = [broker.keys.dead(stage) for stage in after]
    from_ids = [f"({at}" if at else "-" for at in after.values()]

    def read(n: int, most_bytes_of_info: int) -> Any:
        return broker.script(scripts.LETTER_INFOS, names, n, _MOST_BYTES, most_bytes_of_info, *from_ids)

    try:
        asking = partial(read, most_bytes_of_info=0 if ids_only else MOST_JSON_BYTES)
        (now_ms, *found), _ = await broker.paging.ask(asking, limit)
    except ReplyCutOff:
        now_ms, *found = await read(1, 0)
    return now_ms, {
        stage: LetterInfos(n_kept, is_all == 1, by_id, next(reversed(by_id), ""))
        for stage, (n_kept, is_all, *flat) in zip(after, found, strict=True)
        for by_id in [{text_in(at): letter_info(info) for at, info in pairs(flat)}]
    }
