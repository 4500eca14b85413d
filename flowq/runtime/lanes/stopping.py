"""Stops the stages of a process in order, as long as Redis replies, and signs the process off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers
from flowq.errors import BrokerRefused, FlowqError
from flowq.runtime.stage.stage_runner import StageRunner
from flowq.runtime.waiting import is_set_within

log = logging.getLogger("flowq.runtime")

_LATEST_STOP_SECONDS = 1.8
_SIGN_OFF_SECONDS = 1.0
_TRIES_TO_SIGN_OFF = 3


async def stop_stages(
    runners: Sequence[StageRunner], grace_seconds: float, hurry: asyncio.Event, *, address: str
) -> bool:
    """Stop them in order if Redis, which is at that address, replies.

    Otherwise nothing can be handed back: returns False, and others reclaim it.
    """
    stopping: asyncio.Future[Any] = asyncio.gather(
        *(_stop_and_close(runner, grace_seconds, hurry) for runner in runners)
    )
    # Retrieve its error even if nothing waits for it any more: asyncio would warn.
    stopping.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    deadline: asyncio.Future[Any] = asyncio.create_task(_deadline(grace_seconds, hurry))
    await asyncio.wait([stopping, deadline], return_when=asyncio.FIRST_COMPLETED)
    deadline.cancel()
    if stopping.done():
        stopping.result()
        return True
    stopping.cancel()
    await asyncio.gather(*(runner.abandon() for runner in runners))
    log.warning("Redis at %s does not answer: other workers will reclaim the messages that were running here", address)
    return False


async def sign_off(broker: Broker, names: Collection[str], edges: Sequence[str]) -> None:
    """Sign off a worker under all its names. A lease that cannot be released expires."""
    for name in names:
        # A broken connection is noticed at its first use: worth another attempt, but not a long wait.
        for _ in range(_TRIES_TO_SIGN_OFF):
            with contextlib.suppress(FlowqError, TimeoutError):
                async with asyncio.timeout(_SIGN_OFF_SECONDS):
                    await Workers(broker).retire(name, edges)
                    break


async def _stop_and_close(runner: StageRunner, grace_seconds: float, hurry: asyncio.Event) -> None:
    """Stop a stage. Deliveries that Redis refuses to settle stay pending, and the next worker gets them."""
    try:
        for step in (partial(runner.stop, grace_seconds, hurry), runner.close):
            try:
                await step()
            except BrokerRefused as error:
                log.warning("%s could not settle everything: %s", runner.stage.name, error.detail)
    except BaseException:
        await runner.abandon()  # another error: its connections would stay open
        raise


async def _deadline(grace_seconds: float, hurry: asyncio.Event) -> None:
    await is_set_within(hurry, grace_seconds)
    await asyncio.sleep(_LATEST_STOP_SECONDS)
