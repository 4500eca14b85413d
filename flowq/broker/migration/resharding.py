"""Moves what is in Redis from one number of shards to another, while no worker runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import chain

from flowq.broker.edges import Edges
from flowq.broker.migration.giving import Giving
from flowq.broker.migration.keys_moving import KeysMoving
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.migration.seen_moving import SeenMoving
from flowq.broker.migration.shards_change import Contents, EdgeMove, ShardsChange, ShardsMoved
from flowq.broker.records import OK, RECEIVED, before_move, counted, counters_in
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import with_shards
from flowq.broker.shards.forwarding import flush
from flowq.broker.shards.layout import (
    LayoutMove,
    WrongLayout,
    agree_on_layout,
    begin_move,
    read_move,
    record_layout,
    refuse_changed_record,
    shards_in_use,
)
from flowq.broker.shards.waves import in_transit, look
from flowq.broker.workers import Workers
from flowq.delivery.edge import Edge
from flowq.errors import UsageError
from flowq.graph.compilation.placing import Placing
from flowq.graph.compilation.plan import Plan

_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 5.0
_NAMED = 5

log = logging.getLogger("flowq.broker")


class WorkersAlive(UsageError):
    """Workers run while what is in the shards would be moved."""

    code = "FQ226"


class ShardsHoldSomething(UsageError):
    """Shards that a pipeline would no longer have still hold messages, dead letters or kept messages."""

    code = "FQ227"


class OtherMove(UsageError):
    """An interrupted move led to another number of shards, and can only be finished or extended."""

    code = "FQ228"


class Resharding:
    """From the number of shards on record to that of a plan.

    Every step is atomic and may be repeated: after an interruption, `carry_out` does the rest. Until it is done, no
    worker starts and nothing can be pushed.
    """

    def __init__(self, broker: Broker, plan: Plan) -> None:
        self._home = broker.shards[0]
        self._plan = plan
        self._after = plan.shards

    async def change(self, *, sample: int) -> ShardsChange | None:
        """What would move; None if the number on record is that of the plan.

        Of each edge up to `sample` messages in each shard are looked at. Raises OtherMove, WrongServers, BrokerError.
        """
        move, is_interrupted = await self._move()
        if move is None:
            return None
        brokers = self._open(move)
        placing, before = Placing(self._plan), brokers[: move.before]
        edges: list[EdgeMove] = []
        for edge in self._plan.edges:
            n_messages, moving = 0, 0.0
            for broker in before:
                n = (await Edges(broker).outstanding([edge.name]))[edge.name]
                share = await Giving(broker, placing).share(edge.name, sample) if n else 0.0
                n_messages, moving = n_messages + n, moving + n * share
            if n_messages:
                edges.append(EdgeMove(edge.name, n_messages, round(moving)))
        seen = await SeenMoving(self._home, self._plan, move.before).sizes()
        leaving = await self._left_in(brokers[move.after :], brokers)
        return ShardsChange(move.before, move.after, is_interrupted, edges, seen, leaving)

    async def check(self) -> None:
        """Raise WorkersAlive, ShardsHoldSomething or WrongLayout if `carry_out` would, and what `change` raises."""
        move, is_interrupted = await self._move()
        if move is not None:
            brokers = self._open(move)
            if not is_interrupted:
                await refuse_changed_record(self._home, move.before)
            await self._refuse_living(brokers)
            await self._refuse_leaving(brokers, move)

    async def carry_out(self) -> ShardsMoved:
        """Move everything, and put the number into force. Raises as `check` does, before anything is changed."""
        move, _ = await self._move()
        if move is None:
            await self._repair_layout()
            return ShardsMoved()
        await self.check()
        brokers = self._open(move)
        begun = await read_move(self._home)
        if begun != move:
            await asyncio.gather(*(_forget_all(broker, self._plan) for broker in brokers[move.before :]))
        if begun is None:
            await self._begin(brokers, move)
        else:
            await self._keep_out(brokers, move)
        moved = ShardsMoved()
        await self._until_certain(partial(self._move_messages, brokers, moved))
        await self._until_certain(partial(self._copy_memory, move, moved))
        await self._until_certain(partial(self._forget_memory, move))
        await self._until_certain(partial(self._bring_into_run, brokers[: move.after]))
        await asyncio.gather(*(_forget_all(broker, self._plan) for broker in brokers[move.after :]))
        await self._until_certain(partial(record_layout, self._home, move.after))
        for broker in brokers:
            broker.moving = ""
        return moved

    async def _repair_layout(self) -> None:
        """Have all shards agree with the first one, which says that none are moved: one may have been restored."""
        home = with_shards(self._home, self._after)
        try:
            await agree_on_layout(home, self._after)
        except WrongLayout:
            if await shards_in_use(home) != self._after:
                raise
            await self._until_certain(partial(record_layout, home, self._after))

    async def _move(self) -> tuple[LayoutMove | None, bool]:
        """The move that is to be made, and whether it has begun."""
        begun = await read_move(self._home)
        if begun is None:
            before = await shards_in_use(self._home)
            return (None if before in (None, self._after) else LayoutMove(before, self._after)), False
        if begun.after == self._after:
            return begun, True
        if self._after < max(begun.before, begun.after):
            raise OtherMove(
                f'a move of "{self._plan.name}" from {begun.before} to {begun.after} shards was interrupted',
                hint=f"finish it: write shards={begun.after}, and flowq apply {self._plan.name}",
            )
        return LayoutMove(max(begun.before, begun.after), self._after), True

    def _open(self, move: LayoutMove) -> Sequence[Broker]:
        """The brokers of all shards that there were or will be."""
        return with_shards(self._home, max(move.before, move.after)).shards

    async def _begin(self, brokers: Sequence[Broker], move: LayoutMove) -> None:
        """Keep all others out, unless there is a reason to refuse the move. Nothing has moved yet."""
        try:
            await self._keep_out(brokers, move)
            await self._refuse_living(brokers)  # one may have started in between
            await self._refuse_leaving(brokers, move)
        except UsageError:
            await record_layout(self._home, move.before)
            raise

    async def _keep_out(self, brokers: Sequence[Broker], move: LayoutMove) -> None:
        """Keep all others out, and let what is in transit arrive."""
        for broker in brokers:
            broker.moving = str(move)
        await self._until_certain(partial(begin_move, self._home, move))
        await asyncio.gather(*map(flush, brokers))

    async def _move_messages(self, brokers: Sequence[Broker], moved: ShardsMoved) -> None:
        keys = KeysMoving(self._home, self._plan, len(brokers))
        await keys.stop_queueing()
        placing = Placing(self._plan)
        for broker in brokers:
            await Edges(broker).ensure_groups([edge.name for edge in self._plan.edges])
            for edge in self._plan.edges:
                n = await Giving(broker, placing).edge(edge.name)
                if n:
                    moved.messages[edge.name] = moved.messages.get(edge.name, 0) + n
            await flush(broker)

    async def _copy_memory(self, move: LayoutMove, moved: ShardsMoved) -> None:
        """Have everything remembered in its shard. It is forgotten where it was once that is certain."""
        seen = SeenMoving(self._home, self._plan, move.before)
        await seen.pack()
        moved.values = await seen.copy()
        await KeysMoving(self._home, self._plan, move.before).copy()

    async def _forget_memory(self, move: LayoutMove) -> None:
        keys = KeysMoving(self._home, self._plan, move.before)
        await SeenMoving(self._home, self._plan, move.before).forget()
        await keys.forget()
        await keys.note_places()

    async def _until_certain(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write until no failover can undo it: again after the end of a connection, for the next may lead elsewhere."""
        brokers = self._home.shards
        while True:
            before = [broker.epoch for broker in brokers]
            await write()
            for broker in brokers:
                await _until_confirmed(broker)
            if before == [broker.epoch for broker in brokers]:
                return

    async def _bring_into_run(self, brokers: Sequence[Broker]) -> None:
        """Have each shard be in the run of shard 0, and note what it has counted of that run before.

        The next program would have a shard without a run forget everything.
        """
        run_id = await self._home.answer(b"HGET", self._home.keys.run, b"id")
        for broker in brokers[1:] if run_id else ():
            await broker.answer(b"HSET", broker.keys.run, b"id", run_id)
        await asyncio.gather(*map(_note_counted, brokers))

    async def _refuse_living(self, brokers: Sequence[Broker]) -> None:
        for broker in brokers:
            workers = Workers(broker)
            registered = await workers.registered()
            leases = await workers.leases(list(registered))
            alive = sorted((name for name, lease in leases.items() if lease is not None), reverse=True)
            facts = [registered.get(name, {}) for name in alive]  # in shard 0 a process has two names
            processes = [(each.get("host"), each.get("pid", name)) for each, name in zip(facts, alive, strict=True)]
            living = sorted(dict(zip(processes, alive, strict=True)).values())
            if living:
                more = f" and {len(living) - _NAMED} more" * (len(living) > _NAMED)
                raise WorkersAlive(
                    f'"{self._plan.name}" is still served by {", ".join(living[:_NAMED])}{more}',
                    hint="stop all workers; one that was killed counts until its lease ends",
                )

    async def _refuse_leaving(self, brokers: Sequence[Broker], move: LayoutMove) -> None:
        leaving = await self._left_in(brokers[move.after :], brokers)
        if leaving:
            held = "; ".join(f"shard {each.shard}: {each}" for each in leaving[:_NAMED])
            more = f"; and {len(leaving) - _NAMED} more" * (len(leaving) > _NAMED)
            raise ShardsHoldSomething(
                f"the shards that would go are not empty: {held}{more}",
                hint=f"let it finish, and put back or remove its dead letters: flowq dlq ls {self._plan.name}; "
                f"kept messages go only with all the rest: flowq run {self._plan.name} --fresh",
            )
        misfits = await SeenMoving(self._home, self._plan, move.before).misfits()
        if misfits:
            raise ShardsHoldSomething(
                f"values that {', '.join(misfits)} has seen before there were shards do not fit into those that stay",
                hint="keep the number of shards until the run is drained and another one has begun",
            )

    async def _left_in(self, leaving: Sequence[Broker], brokers: Sequence[Broker]) -> list[Contents]:
        """What shards hold that would go. Empty ones are left out."""
        if not leaving:
            return []
        edges = list((await RecordedPlan(self._home).edges()).keys() | self._plan.edge_by_name.keys())
        stages = sorted({Edge.parse(edge).target for edge in edges})
        looks = await asyncio.gather(*(look(broker, edges) for broker in brokers))
        transit = in_transit(looks)
        found = [
            Contents(
                broker.shard,
                looks[broker.shard].outstanding,
                await _length(broker, broker.keys.dead, stages),
                await _length(broker, broker.keys.kept, stages),
                sum(n for channel, n in transit.items() if broker.shard in channel),
            )
            for broker in leaving
        ]
        return [each for each in found if not each.is_empty]


async def _until_confirmed(broker: Broker) -> None:
    """Wait until a shard is certain to remember what was written up to now."""
    since, has_warned = broker.world.monotonic(), False
    while not (await look(broker, ())).is_certain:
        if not has_warned and broker.world.monotonic() - since > _PATIENCE_SECONDS:
            has_warned = True
            log.warning(
                "shard %d has not confirmed what was moved: its replica (see flowq doctor) is waited for", broker.shard
            )
        await broker.world.pause(_POLL_SECONDS)


async def _forget_all(broker: Broker, plan: Plan) -> None:
    """Remove what a shard without messages remembers: it is not in use, and later that would no longer be true."""
    keys = broker.keys
    kinds = (
        keys.seen, keys.seen_until, keys.unpacked, keys.unpacked_until, keys.latest,
        keys.rate, keys.starts, keys.pace, keys.held_until, keys.hold_info, keys.slots, keys.queue,
    )  # fmt: skip
    of_stages = [kind(stage.name) for stage in plan.consumers for kind in kinds]
    await broker.answer(b"DEL", keys.run, keys.stats, keys.failures, keys.published, *of_stages)


async def _note_counted(broker: Broker) -> None:
    """Note what has been counted up to here: counters stay, new shards begin at 0, and neither tells of a busy key."""
    counters = counters_in(await broker.answer(b"HGETALL", broker.keys.stats))
    noted = [(before_move(kind), counted(counters, kind)) for kind in (RECEIVED, OK)]
    await broker.answer(b"HSET", broker.keys.stats, *chain.from_iterable(noted))


async def _length(broker: Broker, kind: Callable[[str], str], stages: Sequence[str]) -> int:
    return sum([await broker.answer(b"XLEN", kind(stage)) for stage in stages])
