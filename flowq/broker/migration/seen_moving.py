"""Moves what deduplicating stages have seen to the shards in which its messages live."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from flowq.broker import scripts
from flowq.broker.migration.seen_values import SeenForm
from flowq.broker.migration.shards_change import SeenMove
from flowq.broker.migration.stored_seen import StoredSeen
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs
from flowq.delivery.placement import CELL_BYTES, CELLS, cell_in, cell_of, cell_of_hash, cells
from flowq.errors import UsageError
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.kinds import PlacedBy

_BUCKETS_PER_STEP = 100
_PACKED_PER_STEP = 10
_JOINED = ":joined"
"""Ends the key of what shard 0 remembers until it takes the place of what it has remembered with cells."""


class SeenMoving:
    """Moves, or copies, what the stages of a plan have seen. The plan has the number of shards that is to be.

    Where a stored value tells its cell, it is moved. A stage that deduplicates by one key and is placed by another has
    stored values without a cell while it had one shard: each shard that may need them gets all of these.
    """

    def __init__(self, broker: Broker, plan: Plan, n_before: int) -> None:
        """`n_before`: how many shards there were, whose values these are."""
        self._brokers = broker.shards
        self._before = broker.shards[:n_before]
        self._stages = [stage for stage in plan.consumers if stage.dedup is not None]
        self._n_shards = plan.shards
        self._shards = cells(plan.shards)

    async def sizes(self) -> list[SeenMove]:
        """How many values each stage remembers, and whether all shards get all of them."""
        found: list[SeenMove] = []
        for stage in self._stages:
            n, is_copied = 0, False
            for broker in self._before:
                form = await StoredSeen(broker, stage).form()
                if form:
                    n, is_copied = n + form.n_values, is_copied or self._place(form, stage) is None
            if n:
                found.append(SeenMove(stage.name, n, is_copied))
        return found

    async def misfits(self) -> list[str]:
        """The stages of which shards that go remember shorter values than a shard that stays, where they would not fit.

        So it is where values from before there were shards have expired in some shards, and in others have not.
        """
        found: list[str] = []
        for stage in self._stages if 1 < self._n_shards < len(self._before) else ():
            forms = [await StoredSeen(broker, stage).form() for broker in self._before]
            lengths = [form.n_bytes if form else 0 for form in forms]
            staying, going = lengths[: self._n_shards], [n for n in lengths[self._n_shards :] if n]
            if going and min(going) < max(staying):
                found.append(stage.name)
        return found

    async def pack(self) -> None:
        """Pack what earlier versions have stored, so that there is one form. Raises UsageError if that is not possible.

        It is not while a worker of such a version is registered.
        """
        for broker in self._brokers:
            await Runs(broker).take_over_seen([stage.name for stage in self._stages])
            for stage in self._stages:
                await _pack(broker, stage)

    async def copy(self) -> int:
        """Have every value remembered in each shard where it lives; returns how many were sent to others."""
        whole = [stage for stage in self._stages if await self._loses_cells(stage)]
        n_joined = sum([await self._join(stage) for stage in whole])
        others = [stage for stage in self._stages if stage not in whole]
        return n_joined + sum([await self._copy_all(stage) for stage in others])

    async def _copy_all(self, stage: StagePlan) -> int:
        # Where shorter values are stored first, longer ones are cut to their length. The other way they would not fit.
        forms = [(await StoredSeen(broker, stage).form(), broker) for broker in self._before]
        by_length = sorted([(form.n_bytes, broker.shard) for form, broker in forms if form])
        return sum([await self._copy(self._brokers[shard], stage) for _, shard in by_length])

    async def forget(self) -> None:
        """Forget, in each shard, the values that live in others, which must be certain to remember them."""
        for stage in self._stages:
            if await self._replace_by_joined(stage):
                continue
            for broker in self._before:
                await self._forget(broker, stage)

    async def _replace_by_joined(self, stage: StagePlan) -> bool:
        """Have what was joined take the place of what shard 0 has remembered. Returns whether there was any."""
        home, key = self._brokers[0], StoredSeen(self._brokers[0], stage).key
        joined = key + _JOINED
        if self._n_shards > 1:  # left by an interrupted move to one shard, and of no use any more
            await home.answer(b"DEL", joined)
            return False
        if not await home.answer(b"EXISTS", joined):
            return False
        await home.answer(b"RENAME", joined, key)
        return True

    async def _loses_cells(self, stage: StagePlan) -> bool:
        """Whether shard 0 is left alone with values that carry cells: in one shard none of them would be recognised."""
        forms = [await StoredSeen(broker, stage).form() for broker in self._before if self._n_shards == 1]
        lengths = [form.n_bytes for form in (forms[:1] if any(forms[:1]) else forms) if form]
        return any(length > _identifying_bytes(stage) for length in lengths)

    async def _join(self, stage: StagePlan) -> int:
        """Remember the values of all shards once more in shard 0, without cells; returns how many came from others."""
        home, n_bytes, n_moved = self._brokers[0], _identifying_bytes(stage), 0
        seen_at_home = StoredSeen(home, stage)
        names = [seen_at_home.key + _JOINED, *seen_at_home.names[1:]]
        for broker in self._before:
            form = await StoredSeen(broker, stage).form()
            if form is None:
                continue
            arguments = int(form.is_timed), min(n_bytes, form.n_bytes), form.set_back_ms
            async for bucket in StoredSeen(broker, stage).buckets():
                n, text = form.shortened(bucket.number, bucket.text, n_bytes)
                n_moved += n * (broker is not home)
                if not await home.script(scripts.ADD_SEEN, names, *arguments, text):
                    raise _is_in_an_old_form(stage)
        return n_moved

    async def _copy(self, broker: Broker, stage: StagePlan) -> int:
        form = await StoredSeen(broker, stage).form()
        if form is None:
            return 0
        place, n, texts = self._place(form, stage), 0, defaultdict[int, list[bytes]](list)
        n_read = 0
        async for bucket in StoredSeen(broker, stage).buckets():
            n_read += 1
            if place is None:
                whole = form.whole(bucket.number, bucket.text)
                for shard in range(self._n_shards) if whole else ():
                    if shard != broker.shard:
                        texts[shard].append(whole)
            else:
                split = form.split(bucket.number, bucket.text, place, broker.shard)
                n += split.n_gone
                for shard, text in split.texts.items():
                    texts[shard].append(text)
            if n_read % _BUCKETS_PER_STEP == 0:
                await self._add(stage, form, texts)
                texts.clear()
        await self._add(stage, form, texts)
        return n

    async def _add(self, stage: StagePlan, form: SeenForm, texts: dict[int, list[bytes]]) -> None:
        for shard, some in texts.items():
            arguments = int(form.is_timed), form.n_bytes, form.set_back_ms
            names = StoredSeen(self._brokers[shard], stage).names
            if not await self._brokers[shard].script(scripts.ADD_SEEN, names, *arguments, *some):
                raise _is_in_an_old_form(stage)

    async def _forget(self, broker: Broker, stage: StagePlan) -> None:
        form = await StoredSeen(broker, stage).form()
        place = self._place(form, stage) if form else None
        if form is None or place is None:
            return
        arguments: list[Any] = []
        async for bucket in StoredSeen(broker, stage).buckets():
            split = form.split(bucket.number, bucket.text, place, broker.shard)
            if split.n_gone:
                arguments += (bucket.number, bucket.text, split.left, split.n_gone)
            if len(arguments) >= 4 * _BUCKETS_PER_STEP:
                await broker.script(scripts.DROP_SEEN, [StoredSeen(broker, stage).key], *arguments)
                arguments.clear()
        if arguments:
            await broker.script(scripts.DROP_SEEN, [StoredSeen(broker, stage).key], *arguments)

    def _place(self, form: SeenForm, stage: StagePlan) -> Callable[[bytes], int | None] | None:
        """The shard of a stored value; None if that cannot be known."""
        shards = self._shards
        match stage.placed_by:
            case PlacedBy.DEDUP:
                return lambda value: shards[cell_of_hash(value)]
            case PlacedBy.STAGE:
                home = shards[cell_of(stage.name.encode())]
                return lambda _: home
            case PlacedBy.RATE | PlacedBy.FIELD:
                n_bytes = _identifying_bytes(stage)
                if form.n_bytes < n_bytes + CELL_BYTES:
                    return None
                return lambda value: shards[cell_in(value, n_bytes) % CELLS]
            case _:
                return None


async def _pack(broker: Broker, stage: StagePlan) -> None:
    memory, stored = stage.dedup_memory, StoredSeen(broker, stage)
    has_latest = bool(memory and memory.places)
    names = [*stored.names, *([broker.keys.latest(stage.name)] if has_latest else ())]
    arguments = int(stored.is_timed), int(has_latest), _PACKED_PER_STEP
    while left := await broker.script(scripts.PACK_SEEN, names, *arguments):
        if left < 0:
            raise _is_in_an_old_form(stage)


def _is_in_an_old_form(stage: StagePlan) -> UsageError:
    return UsageError(
        f"what {stage.name} has seen is stored as flowq did before it could pack it",
        hint="stop the workers of the earlier version; one that was killed counts until its lease ends",
    )


def _identifying_bytes(stage: StagePlan) -> int:
    """How many bytes of a hash identify a value. Those of a cell may follow."""
    return stage.dedup_memory.hash_bytes if stage.dedup_memory else 0
