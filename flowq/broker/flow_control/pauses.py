"""What is paused: a whole pipeline, single stages, or single pacing keys, until it is resumed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowq.broker import scripts
from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS
from flowq.broker.records import WHOLE, moments_by_name
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.every_shard import ask_every_shard

_FOREVER_MS = 10 * 365 * 86_400_000


class Pauses:
    """All pauses of one pipeline: on record in its first shard, those of pacing keys in every shard."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker.shards[0]

    async def pause(self, stages: Sequence[str] = (WHOLE,)) -> bool:
        """Pause stages, or the whole pipeline; whether anything was not paused before."""
        return bool(await self._broker.script(scripts.PAUSE, [self._broker.keys.paused], 1, *stages))

    async def resume(self, stages: Sequence[str] = (WHOLE,)) -> bool:
        """End pauses; whether there was one. A stage stays paused while the whole pipeline is."""
        return bool(await self._broker.script(scripts.PAUSE, [self._broker.keys.paused], 0, *stages))

    async def since(self) -> Mapping[str, int]:
        """The paused stages, WHOLE for all of them, and since when, in milliseconds."""
        return moments_by_name(await self._broker.answer(b"HGETALL", self._broker.keys.paused))

    async def pause_key(self, stage: str, key: str) -> None:
        """Hold a pacing key of a stage until it is resumed: its messages queue, as with any hold."""

        async def hold(shard: Broker) -> None:
            names = [shard.keys.held_until(stage), shard.keys.hold_info(stage)]
            await shard.script(scripts.HOLD, names, key, _FOREVER_MS, _FOREVER_MS, "paused")

        (await ask_every_shard(self._broker, hold)).whole  # noqa: B018  (raises if a shard does not know of it)

    async def resume_key(self, stage: str, key: str) -> bool:
        """End the hold of a pacing key, whatever caused it; whether there was one.

        The queued messages are dequeued within a second, at the rate of the stage.
        """

        async def end(shard: Broker) -> bool:
            link = shard.link()
            try:
                # hold_info goes first: a hold without it is over when its time is, and is never doubled.
                ended = await link.call_all(
                    [(b"HDEL", shard.keys.hold_info(stage), key), (b"ZREM", shard.keys.held_until(stage), key)],
                    timeout_seconds=CALL_TIMEOUT_SECONDS,
                )
            finally:
                await link.close()
            return bool(ended[1])

        return any((await ask_every_shard(self._broker, end)).whole)
