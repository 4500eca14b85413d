"""Moves the messages of a stage to the one that replaces it, in bounded atomic steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from flowq.broker import scripts
from flowq.broker.keys import GROUP
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers
from flowq.delivery.stored import as_stored, text_in
from flowq.errors import UsageError

_MOST_PER_STEP = 500  # each may carry a body of a megabyte
_BUCKETS_PER_STEP = 16
_OTHERS = -2


class StillServed(UsageError):
    """An edge is no longer in the code, but a live worker of an earlier version still serves it."""

    code = "FQ206"


class Moving:
    """Moves messages within one pipeline."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def edge(self, edge: str, new_edge: str) -> int:
        """Move every message; returns how many. After an interruption, the same call moves the rest.

        Raises StillServed when a worker that reads the old edge is alive.
        """
        keys, moved = self._broker.keys, 0
        names = [
            keys.workers, keys.stats, *keys.of_edge(edge),
            *keys.of_edge(new_edge),
        ]  # fmt: skip
        while True:
            consumers = sorted((await Workers(self._broker).consumers_of([edge]))[edge])
            leases = [as_stored(keys.lease(consumer)) for consumer in consumers]
            n, *living = await self._broker.script(
                scripts.MOVE_EDGE, [*names, *leases], GROUP, edge, new_edge, _MOST_PER_STEP, *map(as_stored, consumers)
            )
            if living:
                raise StillServed(
                    f"{edge} is still served by worker {text_in(living[0])}",
                    hint="stop the workers of the earlier version; one that was killed counts until its lease ends",
                )
            if n == 0:
                return moved
            moved += n if n != _OTHERS else 0  # a worker has begun to read it: find out which

    async def stage(self, stage: str, new_stage: str, edges: Mapping[str, str]) -> None:
        """Move everything of a stage or a source except its messages. `edges` are its edges, by their old names.

        Each step is atomic, all of them together are not: what enters the new stage meanwhile is not compared with what
        the old one has seen and has not been moved yet.
        """
        keys = self._broker.keys
        flat = [name for pair in edges.items() for name in pair]

        def both(*kinds: Callable[[str], str]) -> list[str]:
            return [key(name) for key in kinds for name in (stage, new_stage)]

        for letters in (both(keys.dead, keys.edited), both(keys.kept, keys.edited)):
            while await self._broker.script(scripts.MOVE_LETTERS, letters, _MOST_PER_STEP, *flat):
                pass
        names = [
            keys.stats, keys.failures, keys.paused, keys.cursors, keys.run,
            *both(keys.held_until),
            *both(keys.rate, keys.starts, keys.hold_info, keys.pace, keys.restored, keys.latest),
        ]  # fmt: skip
        await self._broker.script(scripts.RENAME_STAGE, names, stage, new_stage, *flat)
        for timed, kinds in enumerate(((keys.seen, keys.unpacked), (keys.seen_until, keys.unpacked_until))):
            memories, bucket = [*(key(stage) for key in kinds), keys.workers], 0
            memories += [*(key(new_stage) for key in kinds), keys.workers]
            while bucket := await self._broker.script(scripts.MOVE_SEEN, memories, timed, bucket, _BUCKETS_PER_STEP):
                pass

    async def dequeue_all(self, stage: str, edges: Sequence[str]) -> None:
        """Make the messages on these edges of a stage that wait for others of their pacing key due now."""
        keys = self._broker.keys
        names = [keys.queue(stage), *(keys.delayed(edge) for edge in edges)]
        last = b""
        while last := await self._broker.script(scripts.DEQUEUE_ALL, names, _MOST_PER_STEP, last, *edges):
            pass
