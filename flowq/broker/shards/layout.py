"""The layout of a pipeline: its number of shards on record. Code with another number is refused."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from flowq.broker.client.connection import Link
from flowq.broker.client.many_servers import ServersDialer
from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.every_shard import VIEW_PATIENCE_SECONDS, ask_every_shard
from flowq.delivery.placement import MOST_SHARDS
from flowq.delivery.stored import text_in
from flowq.errors import BrokerError, BrokerRefused, UsageError

SHARDS_FIELD, SERVERS_FIELD = "*shards", "*servers"
"""In `plan` of shard 0, where no edge has such a name: how many shards, and how many servers hold them in turn."""
LAYOUT_FIELD = "layout"
"""In `heads` of each shard, where scripts look: the same number, or anything else while shards are moved."""
_MOST_SERVERS = 999


class WrongLayout(UsageError):
    """The code divides a pipeline into another number of shards than Redis has on record, or its shards are moved."""

    code = "FQ408"


class WrongServers(UsageError):
    """The URL of Redis names other servers, or the same in another order, than those that hold the shards."""

    code = "FQ409"


async def read_layout(broker: Broker) -> int | None:
    """The number of shards on record; None if there is no record, or this user may not read it.

    Raises WrongServers if the URL names another number of servers than those on record, BrokerUnavailable.
    """
    home = broker.shards[0]
    try:
        (reply,) = await home.ask([(b"HMGET", home.keys.plan, SHARDS_FIELD, SERVERS_FIELD)])
    except BrokerRefused:
        return None
    shards, servers = (None, None) if isinstance(reply, Exception) else reply
    n_servers = _number(servers, _MOST_SERVERS) or 1
    if _number(shards, MOST_SHARDS) is not None and n_servers != _n_servers(home):
        raise WrongServers(
            f'the shards of "{home.keys.pipeline}" are on {n_servers} servers, {_n_servers(home)} are configured',
            hint=f"name the same servers in the same order; for flowq's own, servers = {n_servers}",
        )
    return _number(shards, MOST_SHARDS)


async def shards_in_use(broker: Broker) -> int | None:
    """The number on record; 1 for a pipeline that has run without shards, None for one that has never run.

    Of one that has run without shards, what it has seen and what waits is all in shard 0. Raises as `read_layout`.
    """
    home = broker.shards[0]
    has_run = await home.answer(b"HLEN", home.keys.plan)
    on_record = await read_layout(home)  # after that: a program that starts at the same moment records this first
    return on_record or (1 if has_run else None)


def _number(stored: object, most: int) -> int | None:
    """A recorded number; None for anything else."""
    text = text_in(stored) if isinstance(stored, bytes) else ""
    return int(text) if text.isdecimal() and len(text) <= len(str(most)) and 1 <= int(text) <= most else None


def _n_servers(broker: Broker) -> int:
    return len(broker.dialer.servers) if isinstance(broker.dialer, ServersDialer) else 1


async def agree_on_layout(broker: Broker, n_shards: int) -> None:
    """Raise WrongLayout unless this number of shards is in force; the first program that calls this puts it on record.

    For programs that run the code of a pipeline or publish to it: from then on each key has its place. A pipeline of
    one shard writes nothing. Raises WrongServers and BrokerError as well.
    """
    home = broker.shards[0]
    if n_shards == len(broker.shards) == 1:
        return
    in_use = await shards_in_use(home)
    if (in_use or n_shards) != n_shards:
        raise _differs(home, n_shards, in_use)
    layouts = (await ask_every_shard(broker, lambda each: each.answer(b"HGET", each.keys.heads, LAYOUT_FIELD))).whole
    new = [each for each, layout in zip(broker.shards, layouts, strict=True) if layout is None]
    await _refuse_if_elsewhere(home, new)
    # Another program may be the first in between: nothing that is there is written over.
    await home.answer(b"HSETNX", home.keys.plan, SHARDS_FIELD, n_shards)
    if _n_servers(home) > 1:
        await home.answer(b"HSETNX", home.keys.plan, SERVERS_FIELD, _n_servers(home))
    if (on_record := await read_layout(home)) != n_shards:
        raise _differs(home, n_shards, on_record)
    await gather(*(each.answer(b"HSETNX", each.keys.heads, LAYOUT_FIELD, n_shards) for each in new))
    if any(layout not in (None, b"%d" % n_shards) for layout in layouts):
        raise _is_moving(home)


async def has_changed(broker: Broker) -> WrongLayout:
    """What to raise when a script was refused because its shard has another layout than this process."""
    home, n_shards = broker.shards[0], len(broker.shards)
    on_record = await read_layout(home)
    return _is_moving(home) if on_record == n_shards else _differs(home, n_shards, on_record)


def _is_moving(home: Broker) -> WrongLayout:
    name = home.keys.pipeline
    return WrongLayout(
        f'the shards of "{name}" are being moved, or a move was interrupted',
        hint=f"wait for it, or finish it: flowq apply {name}",
    )


def _differs(home: Broker, in_code: int, on_record: int | None) -> WrongLayout:
    name, recorded = home.keys.pipeline, on_record or 1
    return WrongLayout(
        f'"{name}" has {in_code} shard{"s" * (in_code != 1)} in the code, {recorded} in Redis',
        hint=f"flowq plan {name} shows what would move, flowq apply {name} moves it; or write shards={recorded}",
    )


async def refuse_changed_record(broker: Broker, n_shards: int) -> None:
    """Raise WrongLayout if there are more shards than this number, which is on record: another program has changed it.

    What the others hold would be taken for left over, and forgotten.
    """
    home, others = broker.shards[0], broker.shards[n_shards:]
    layouts = await gather(*(each.answer(b"HGET", each.keys.heads, LAYOUT_FIELD) for each in others))
    for each, layout in zip(others, layouts, strict=True):
        if (number := _number(layout, MOST_SHARDS) or 0) > n_shards:
            raise WrongLayout(
                f'shard {each.shard} of "{home.keys.pipeline}" is one of {number}, shard 0 has {n_shards} on record',
                hint=f"if {number} is right, put it on record again: HSET {home.keys.plan} {SHARDS_FIELD} {number}",
            )


async def refuse_exchanged_servers(broker: Broker) -> None:
    """Raise WrongServers if the URL names the servers of the shards in another order, as far as they answer.

    For every program, also one that only looks: it would take a shard that is elsewhere for an empty one.
    """
    if len(broker.shards) == 1 or not isinstance(broker.dialer, ServersDialer):
        return
    with suppress(BrokerError):
        answers = await ask_every_shard(broker, _layout_in, patience_seconds=VIEW_PATIENCE_SECONDS)
        new = [broker.shards[shard] for shard, layout in answers.by_shard.items() if layout is None]
        await _refuse_if_elsewhere(broker.shards[0], new)


async def _layout_in(shard: Broker) -> bytes | None:
    layout: bytes | None = await shard.answer(b"HGET", shard.keys.heads, LAYOUT_FIELD)
    return layout


async def _refuse_if_elsewhere(home: Broker, new: Sequence[Broker]) -> None:
    """Raise WrongServers if a shard that looks new is on another server: the URL may name them in another order."""
    if not isinstance(home.dialer, ServersDialer):
        return
    servers = home.dialer.servers if new else ()
    for number, server in enumerate(servers):
        missing = [each for each in new if each.shard % len(servers) != number]
        link = Link(server, home.world)
        try:
            commands = [(b"HEXISTS", each.keys.heads, LAYOUT_FIELD) for each in missing]
            found = await link.call_all(commands, timeout_seconds=CALL_TIMEOUT_SECONDS)
        finally:
            await link.close()
        if 1 in found:
            shard = missing[found.index(1)].shard
            raise WrongServers(
                f'shard {shard} of "{home.keys.pipeline}" is on {server.address}, '
                f"and the Redis URL says that it is on {servers[shard % len(servers)].address}",
                hint="name the servers in the order in which they were named at first",
            )


@dataclass(frozen=True, slots=True)
class LayoutMove:
    """A move to another number of shards that has begun and not ended.

    >>> str(LayoutMove(1, 16)), LayoutMove.parse(b"moving 1 16"), LayoutMove.parse(b"16")
    ('moving 1 16', LayoutMove(before=1, after=16), None)
    """

    before: int
    after: int

    def __str__(self) -> str:
        return f"moving {self.before} {self.after}"

    @classmethod
    def parse(cls, layout: bytes) -> LayoutMove | None:
        match layout.split(b" "):
            case [b"moving", before, after]:
                numbers = _number(before, MOST_SHARDS), _number(after, MOST_SHARDS)
                return cls(*numbers) if None not in numbers else None  # type: ignore[arg-type]
            case _:
                return None


async def read_move(broker: Broker) -> LayoutMove | None:
    """The move that was interrupted, or is under way; None if there is none."""
    home = broker.shards[0]
    return LayoutMove.parse(await home.answer(b"HGET", home.keys.heads, LAYOUT_FIELD) or b"")


async def begin_move(broker: Broker, move: LayoutMove) -> None:
    """From now on no shard accepts messages but those that this process moves. Shard 0 first: it tells of the move."""
    home = broker.shards[0]
    for each in broker.shards:
        await each.answer(b"HSET", each.keys.heads, LAYOUT_FIELD, str(move))
    await _record(home, move.after)


async def record_layout(broker: Broker, n_shards: int) -> None:
    """Put this number of shards into force, whatever was on record. Ends a move. Shard 0 last: it tells of that."""
    home = broker.shards[0]
    await _record(home, n_shards)
    for each in reversed(broker.shards):
        await each.answer(b"HSET", each.keys.heads, LAYOUT_FIELD, n_shards)


async def _record(home: Broker, n_shards: int) -> None:
    servers = (SERVERS_FIELD, _n_servers(home)) if _n_servers(home) > 1 else ()
    await home.answer(b"HSET", home.keys.plan, *servers, SHARDS_FIELD, n_shards)
