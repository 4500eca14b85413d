"""What is paused of a pipeline: all of it or single stages, until somebody has them go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowq.broker import scripts
from flowq.broker.records import WHOLE, pairs
from flowq.broker.redis_streams import Broker


async def pause(broker: Broker, stages: Sequence[str] = (WHOLE,)) -> bool:
    """Pause stages, or the whole pipeline; whether anything was not paused before."""
    return bool(await broker.script(scripts.PAUSE, [broker.keys.paused], 1, *stages))


async def resume(broker: Broker, stages: Sequence[str] = (WHOLE,)) -> bool:
    """Take back pauses; whether there was one. A stage does not go on while the whole pipeline is paused."""
    return bool(await broker.script(scripts.PAUSE, [broker.keys.paused], 0, *stages))


async def paused_since(broker: Broker) -> Mapping[str, int]:
    """The stages that are paused, WHOLE for all of them, and since when, in milliseconds."""
    (reply,) = await broker.ask([(b"HGETALL", broker.keys.paused)])
    if isinstance(reply, Exception):
        raise reply
    return {name.decode(): int(since) for name, since in pairs(reply)}
