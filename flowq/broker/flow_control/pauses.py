"""What is paused of a pipeline: all of it or single stages, until somebody has them go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowq.broker import scripts
from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS
from flowq.broker.records import WHOLE, moments_by_name
from flowq.broker.redis_streams import Broker


async def pause(broker: Broker, stages: Sequence[str] = (WHOLE,)) -> bool:
    """Pause stages, or the whole pipeline; whether anything was not paused before."""
    return bool(await broker.script(scripts.PAUSE, [broker.keys.paused], 1, *stages))


async def resume(broker: Broker, stages: Sequence[str] = (WHOLE,)) -> bool:
    """Take back pauses; whether there was one. A stage does not go on while the whole pipeline is paused."""
    return bool(await broker.script(scripts.PAUSE, [broker.keys.paused], 0, *stages))


async def paused_since(broker: Broker) -> Mapping[str, int]:
    """The stages that are paused, WHOLE for all of them, and since when, in milliseconds."""
    return moments_by_name(await broker.answer(b"HGETALL", broker.keys.paused))


_FOR_EVER_MS = 10 * 365 * 86_400_000


async def pause_key(broker: Broker, stage: str, key: str) -> None:
    """Hold a pacing key of a stage until it is resumed: its messages queue, as behind any hold."""
    names = [broker.keys.held_until(stage), broker.keys.hold_info(stage)]
    await broker.script(scripts.HOLD, names, key, _FOR_EVER_MS, _FOR_EVER_MS, "paused")


async def resume_key(broker: Broker, stage: str, key: str) -> bool:
    """End the hold of a pacing key, whoever has asked for it; whether there was one.

    Those who queue are called within a second, and take their turns.
    """
    link = broker.link()
    try:
        # What is known of the hold goes first: without it a hold is over when its time is, and is never doubled.
        ended = await link.call_all(
            [(b"HDEL", broker.keys.hold_info(stage), key), (b"ZREM", broker.keys.held_until(stage), key)],
            timeout_seconds=CALL_TIMEOUT_SECONDS,
        )
    finally:
        await link.close()
    return bool(ended[1])
