"""The layout of a pipeline: its number of shards on record, which wins over the one in the code."""

from __future__ import annotations

from asyncio import gather

from flowq.broker.keys import MOST_SHARDS
from flowq.broker.redis_streams import Broker
from flowq.delivery.stored import text_in
from flowq.errors import BrokerRefused, UsageError

SHARDS_FIELD = "*shards"
"""In `plan` of shard 0. No edge has such a name."""
LAYOUT_FIELD = "layout"
"""In `heads` of each shard, where scripts look."""


class WrongLayout(UsageError):
    """The code divides the pipeline into another number of shards than Redis has on record."""

    code = "FQ408"

    def __init__(self, pipeline: str, *, in_code: int, on_record: int) -> None:
        super().__init__(
            f'"{pipeline}" has {_shards(in_code)} in the code, {on_record} in Redis',
            hint=f"flowq plan {pipeline} shows what would move, flowq apply {pipeline} moves it; "
            f"or set shards={on_record}",
        )


def _shards(n: int) -> str:
    return f"{n} shard{'s' * (n != 1)}"


async def read_layout(broker: Broker) -> int | None:
    """The number of shards on record; None if there is no record, or this user may not read it. Raises BrokerError."""
    home = broker.shards[0]
    try:
        (reply,) = await home.ask([(b"HGET", home.keys.plan, SHARDS_FIELD)])
    except BrokerRefused:
        return None
    return number_of_shards(reply)


def number_of_shards(stored: object) -> int | None:
    """A recorded number of shards; None for anything that is none."""
    text = text_in(stored) if isinstance(stored, bytes) else ""
    return int(text) if text.isdecimal() and len(text) <= 2 and 1 <= int(text) <= MOST_SHARDS else None


async def agree_on_layout(broker: Broker, n_shards: int) -> None:
    """Raise WrongLayout unless this number of shards is in force; the first to call this puts it on record.

    For programs that run the code of a pipeline or publish to it: from then on keys have their places. A pipeline of
    one shard writes nothing.
    """
    home = broker.shards[0]
    if n_shards == len(broker.shards) == 1:
        return
    on_record = await read_layout(home)
    if on_record is None and n_shards > 1:
        await home.answer(b"HSETNX", home.keys.plan, SHARDS_FIELD, n_shards)  # another may be the first in between
        on_record = await read_layout(home)
    if (on_record or 1) != n_shards:
        raise WrongLayout(home.keys.pipeline, in_code=n_shards, on_record=on_record or 1)
    if n_shards > 1:
        await gather(*(_begin(each, n_shards) for each in broker.shards))


async def _begin(broker: Broker, n_shards: int) -> None:
    """Let the scripts of a shard work with this layout, unless the shard has one: it may be on the move to another."""
    await broker.answer(b"HSETNX", broker.keys.heads, LAYOUT_FIELD, n_shards)


async def record_layout(broker: Broker, n_shards: int) -> None:
    """Put this number of shards into force, whatever was on record: every shard first, what others go by last."""
    await gather(*(each.answer(b"HSET", each.keys.heads, LAYOUT_FIELD, n_shards) for each in broker.shards))
    home = broker.shards[0]
    await home.answer(b"HSET", home.keys.plan, SHARDS_FIELD, n_shards)
