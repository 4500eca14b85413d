"""Runs scripts, and repeats calls until Redis answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.exceptions import NoScriptError, ResponseError

from flowq.broker.client.connection import Link
from flowq.broker.client.outages import Outages, what_is_away
from flowq.broker.client.redis_errors import translate
from flowq.broker.scripts import Script
from flowq.errors import BrokerUnavailable, RequestCutOff, RequestRefused
from flowq.world import World

T = TypeVar("T")
log = logging.getLogger("flowq.broker")

CALL_TIMEOUT_SECONDS = 10.0
CUT_OFFS_BEFORE_REFUSAL = 3
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 2.0

_outages = Outages()
"""Those that any call of this process waits for."""


async def run_script(
    link: Link, script: Script, keys: Sequence[Any], arguments: Sequence[Any], *, replicated: bool = False
) -> Any:
    """Run a script by its digest, or by its text if Redis does not have it.

    `replicated`: raise BrokerUnavailable unless a replica has its writes.
    """
    call = link.call_replicated if replicated else link.call
    try:
        try:
            reply = await call(*script.by_digest(keys, arguments), timeout_seconds=CALL_TIMEOUT_SECONDS)
        except NoScriptError:
            reply = await call(*script.by_text(keys, arguments), timeout_seconds=CALL_TIMEOUT_SECONDS)
    except ResponseError as error:
        raise _has_lost_a_group(error) from error
    if not script.can_answer(reply):
        raise await _misled(link, script, reply)
    return reply


async def check_answer(link: Link, script: Script, reply: object, address: str) -> None:
    """Raise what `run_script` raises for this reply, if anything."""
    if isinstance(reply, Exception):
        error = translate(reply, address)
        raise (_has_lost_a_group(error) if isinstance(error, ResponseError) else error) from reply
    if not script.can_answer(reply):
        raise await _misled(link, script, reply)


def _has_lost_a_group(error: ResponseError) -> BrokerUnavailable:
    return BrokerUnavailable(
        "Redis has lost a consumer group of this pipeline",
        hint="the next worker that reads creates it again",
        detail=str(error),
    )


async def _misled(link: Link, script: Script, reply: object) -> BrokerUnavailable:
    return await link.misled(f"{script.name} was answered with {str(reply)[:60]!r}")


async def again_if_lost(call: Callable[[], Awaitable[T]]) -> T:
    """Make a call that may be repeated, and repeat it once if it fails with BrokerUnavailable."""
    try:
        return await call()
    except BrokerUnavailable:
        return await call()


async def retry_until_available(world: World, attempt: Callable[[], Awaitable[T]], *, what: str) -> T:
    """Repeat a call until Redis answers, with exponential backoff and jitter. Only for calls that may be repeated.

    Logs the beginning and the end of an outage once each, however many calls wait for the same server. Raises
    BrokerRefused, which repeating would not change, and RequestRefused if the connection is closed three times in a row
    on a large request.
    """
    pause_seconds, failures, cut_offs, this_call = _FIRST_PAUSE_SECONDS, 0, 0, object()
    try:
        while True:
            try:
                result = await attempt()
            except (BrokerUnavailable, ResponseError) as error:
                failures += 1
                cut_offs = cut_offs + 1 if isinstance(error, RequestCutOff) else 0
                if cut_offs == CUT_OFFS_BEFORE_REFUSAL:
                    raise _refused(error, what) from error
                if failures > 1 and _outages.begin(name := what_is_away(error), this_call):
                    why = getattr(error, "detail", "") or getattr(error, "message", error)
                    log.warning("%s: %s is not available, retrying: %s", what, name, why)
                await asyncio.sleep(pause_seconds * (0.5 + world.random()))
                pause_seconds = min(_LONGEST_PAUSE_SECONDS, pause_seconds * 2)
            else:
                for name in _outages.end(this_call) if failures > 1 else ():
                    log.warning("%s is available again", name)
                return result
    finally:
        if failures > 1:  # it may have been cancelled
            _outages.end(this_call)


def _refused(error: Exception, what: str) -> RequestRefused:
    return RequestRefused(
        "Redis closes the connection on a large request each time it is sent",
        hint="raise proto-max-bulk-len and client-query-buffer-limit of Redis, or send less at once",
        detail=f"{what}: {error}",
    )
