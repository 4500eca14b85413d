"""The dead letters of one stage in all shards of a pipeline, as if they were in one stream."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from flowq.broker.publishing import Publishing
from flowq.broker.records import DeadEntry
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.every_shard import SilentShard, ask_for_a_view
from flowq.dead_letters.stored_letters import Exported, StoredLetters, WayBack
from flowq.delivery.letter_ids import LetterId, is_letter_id
from flowq.delivery.settlement import Output

Item = TypeVar("Item")


def stored_letters(broker: Broker, stage: str, silent: dict[int, SilentShard] | None = None) -> StoredLetters:
    """The dead letters of a stage, in however many shards."""
    return StoredLetters(broker, stage) if len(broker.shards) == 1 else LettersOfShards(broker, stage, silent)


class LettersOfShards(StoredLetters):
    """The dead letters of one stage, merged by time. Ids end with the shard: "1700000000000-0@3".

    Each method acts on the shards of the letters it is given; within a shard it is one atomic step. A letter that was
    edited and now belongs to another shard is put back there, in two. Reading raises
    BrokerUnavailable, with its name, if a shard does not answer: its letters would seem to be gone. With `silent`, to
    which that shard is added, the letters of the others are read.
    """

    def __init__(self, broker: Broker, stage: str, silent: dict[int, SilentShard] | None = None) -> None:
        super().__init__(broker, stage)
        self._silent = silent
        self._of = {shard.shard: StoredLetters(shard, stage) for shard in broker.shards}

    async def read(self, *, after: str = "", limit: int = 1000, bodies: bool = True) -> list[DeadEntry]:
        last = LetterId.parse(after) if after else None
        share = -(-limit // len(self._of))

        async def page(shard: Broker) -> list[DeadEntry]:
            first = last.after_in(shard.shard) if last else ""
            return await self._of[shard.shard].read(after=first, limit=share, bodies=bodies)

        pages = await ask_for_a_view(self._broker, page, self._silent)
        # A full page may go on: what is later than its end could belong behind what has not been read.
        ends = [_id(page[-1], shard) for shard, page in pages.items() if len(page) >= share]
        return _in_order(pages, lambda at: not ends or at <= min(ends))[:limit]

    async def before(self, entry_id: str, *, limit: int) -> tuple[list[DeadEntry], bool]:
        first = LetterId.parse(entry_id) if entry_id else None

        async def page(shard: Broker) -> tuple[list[DeadEntry], bool]:
            at = first.before_in(shard.shard) if first else ""
            return await self._of[shard.shard].before(at, limit=limit)

        pages = await ask_for_a_view(self._broker, page, self._silent)
        ends = [_id(found[-1], shard) for shard, (found, is_all) in pages.items() if found and not is_all]
        of_shards = {shard: found for shard, (found, _) in pages.items()}
        found = _in_order(of_shards, lambda at: not ends or at >= max(ends))[::-1]
        return found[:limit], len(found) <= limit and all(is_all for _, is_all in pages.values())

    async def named(self, ids: Sequence[str], *, bodies: bool = True) -> list[DeadEntry]:
        by_shard = self._by_shard((letter_id for letter_id in ids if is_letter_id(letter_id)), str)
        entries = [[letter.entry for letter, _ in letters] for letters in by_shard.values()]
        pages = await _all_of(
            self._of[shard].named(of_one, bodies=bodies) for shard, of_one in zip(by_shard, entries, strict=True)
        )
        found = {str(_id(entry, shard)): entry for shard, page in zip(by_shard, pages, strict=True) for entry in page}
        return [replace(found[each], entry_id=each) for each in ids if each in found]

    async def put_back(self, edge: str, letters: Sequence[WayBack]) -> int:
        by_shard = self._by_shard((way for way in letters if way.home is None), lambda way: way.entry_id)
        staying = await _all_of(
            self._of[shard].put_back(edge, [way._replace(entry_id=letter.entry) for letter, way in ways])
            for shard, ways in by_shard.items()
        )
        leaving = self._by_shard((way for way in letters if way.home is not None), lambda way: way.entry_id)
        return sum(staying) + sum([await self._send(edge, *each) for ways in leaving.values() for each in ways])

    async def _send(self, edge: str, letter: LetterId, way: WayBack) -> int:
        """Put a letter back in another shard. First it is there, then gone here: between the two it can only be twice.

        Then its id keeps it from being added again for an hour, as that of a push does.
        """
        home, token = self._broker.shards[way.home or 0], f"put_back:{self._stage}:{letter}"
        message = Output(edge, way.header, way.body or b"")
        await Publishing(home).publish(edge, [message], token=token, delay_ms=way.delay_ms)
        return await self._of[letter.shard or 0].remove([letter.entry])

    async def edit(self, bodies: Sequence[tuple[str, bytes]]) -> list[bool]:
        by_shard = self._by_shard(bodies, lambda edited: edited[0])
        there = await _all_of(
            self._of[shard].edit([(letter.entry, body) for letter, (_, body) in edited])
            for shard, edited in by_shard.items()
        )
        found = {
            edited[0]: is_there
            for (of_one, these) in zip(by_shard.values(), there, strict=True)
            for (_, edited), is_there in zip(of_one, these, strict=True)
        }
        return [found.get(letter_id, False) for letter_id, _ in bodies]

    async def remove(self, ids: Sequence[str]) -> int:
        by_shard = self._by_shard(ids, str)
        return sum(
            await _all_of(
                self._of[shard].remove([letter.entry for letter, _ in letters]) for shard, letters in by_shard.items()
            )
        )

    async def restore(self, letters: Sequence[Exported]) -> int:
        """Add exported letters to the shards that they came from; what came from elsewhere to the first."""
        by_shard: defaultdict[int, list[Exported]] = defaultdict(list)
        for letter in letters:
            at = LetterId.parse(letter.entry_id)
            by_shard[at.shard if at.shard in self._of else 0].append(letter._replace(entry_id=at.entry))
        return sum(await _all_of(self._of[shard].restore(each) for shard, each in by_shard.items()))

    def _by_shard(
        self, items: Iterable[Item], id_of: Callable[[Item], str]
    ) -> Mapping[int, list[tuple[LetterId, Item]]]:
        """Items by the shard of their letter, those of other pipelines and layouts left out."""
        found: defaultdict[int, list[tuple[LetterId, Item]]] = defaultdict(list)
        for item in items:
            letter = LetterId.parse(id_of(item))
            if letter.shard is not None and letter.shard in self._of:
                found[letter.shard].append((letter, item))
        return found


def _id(entry: DeadEntry, shard: int) -> LetterId:
    return LetterId.parse(entry.entry_id)._replace(shard=shard)


def _in_order(pages: Mapping[int, Sequence[DeadEntry]], is_known: Callable[[LetterId], bool]) -> list[DeadEntry]:
    """The entries of all shards by time, each with the id that tells its shard."""
    named = {_id(entry, shard): entry for shard, page in pages.items() for entry in page}
    return [replace(named[at], entry_id=str(at)) for at in sorted(named) if is_known(at)]


async def _all_of(steps: Iterable[Coroutine[Any, Any, Item]]) -> list[Item]:
    return await asyncio.gather(*steps)
