"""Passes batches to their handler, and splits a batch that fails: a bad message must not affect its neighbours."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from flowq.delivery.message import Delivery
from flowq.delivery.policy import Retry
from flowq.delivery.settlement import Delay, Failed, Interrupted, Outcome, Succeeded, TimedOut, decide
from flowq.errors import BatchFailed, BodyElsewhere, DecodeError, RetryLater
from flowq.graph.kinds import Batch
from flowq.large_bodies.reference import stored_bytes
from flowq.runtime.handlers.concluding import clear_frames_of
from flowq.runtime.handlers.handling import Handling
from flowq.runtime.stage.wait_queue import WaitQueue

Outcomes = list[tuple[Sequence[Delivery], Outcome]]
Interruptible = Callable[..., Awaitable[Outcome]]
"""Calls a coroutine function with the arguments that follow, and awaits it."""

_MOST_CALLS_IN_VAIN = 15  # a batch, its halves, quarters and eighths


async def gather(
    batch: list[Delivery], todo: deque[Delivery], idle: WaitQueue, limits: Batch, is_stopping: Callable[[], bool]
) -> None:
    """Fill a batch of one delivery with those that may settle with it, until it is full or its linger time is over."""
    now = asyncio.get_running_loop().time
    size, max_bytes, n_bytes = limits.size, limits.max_bytes, stored_bytes(batch[0])
    deadline = now() + limits.linger_seconds
    while len(batch) < size and (max_bytes is None or n_bytes < max_bytes):
        if (
            todo
            and todo[0].settles_with(batch[0])
            and (max_bytes is None or n_bytes + stored_bytes(todo[0]) <= max_bytes)
        ):
            batch.append(todo.popleft())
            if max_bytes is not None:
                n_bytes += stored_bytes(batch[-1])
        elif todo or now() >= deadline or is_stopping():
            break
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await idle.sleep()


async def handle_batch(handling: Handling, deliveries: Sequence[Delivery], interruptible: Interruptible) -> Outcomes:
    """The outcome of each part of a batch. Outputs belong to the part that produced them, which settles as one.

    A batch whose handler fails is retried in halves, larger parts first: 2n - 1 calls at most. If the first 15 calls
    all fail, the messages are hardly to blame: they wait for their next attempt, except for parts with a message in its
    last attempt. A failure that says nothing about single messages, such as a timeout, applies to all of them. Messages
    that time out in their last attempt are tried in halves too, to isolate the one that hangs, until 15 calls have
    timed out or the first 15 have all failed.
    """
    outcomes: Outcomes = []
    parts, retry = deque([deliveries]), handling.stage.retry
    n_calls, n_timeouts, any_succeeded = 0, 0, False
    outcome: Outcome = Succeeded(())
    while parts:
        part = parts.popleft()
        is_in_vain = n_calls >= _MOST_CALLS_IN_VAIN and not any_succeeded
        if is_in_vain and (isinstance(outcome, TimedOut) or not _in_last_attempt(part, outcome, retry)):
            outcomes.extend(((delivery,), outcome) for delivery in part)
            continue
        # Decoded for each call: a failed handler may have changed its messages or their list.
        part, messages = await _decoded(handling, part, outcomes)
        if not part:
            continue
        outcome = await interruptible(handling.handle_message, messages, part[0])
        n_calls += 1
        if isinstance(outcome, Succeeded):
            outcomes.append((part, outcome))
            any_succeeded = True
        elif isinstance(outcome, Failed) and isinstance(outcome.error, BatchFailed):
            outcomes.extend(_by_message(handling, part, outcome.error))
            any_succeeded = True
        elif isinstance(outcome, TimedOut) and len(part) > 1 and n_timeouts < _MOST_CALLS_IN_VAIN:
            n_timeouts += 1
            last = _in_last_attempt(part, outcome, retry)
            outcomes.extend(((delivery,), outcome) for delivery in part if delivery.entry_id not in last)
            parts += _halves(part) if len(last) == len(part) else [list(last.values())] * bool(last)
        elif len(part) == 1 or _concerns_all(outcome):
            outcomes.extend(((delivery,), outcome) for delivery in part)
        else:
            clear_frames_of(outcome)
            parts += _halves(part)
    return outcomes


async def _decoded(
    handling: Handling, deliveries: Sequence[Delivery], outcomes: Outcomes
) -> tuple[Sequence[Delivery], list[Any]]:
    """The deliveries that can be decoded, and their messages. The others are added to the outcomes."""
    good: list[Delivery] = []
    messages: list[Any] = []
    for delivery in deliveries:
        try:
            try:
                message = handling.decode(delivery)
            except BodyElsewhere:
                message = await handling.decode_claimed(delivery)
        except DecodeError as error:
            outcomes.append(((delivery,), await handling.undecoded(error, delivery)))
        else:
            messages.append(message)
            good.append(delivery)
    return good, messages


def _halves(part: Sequence[Delivery]) -> Sequence[Sequence[Delivery]]:
    return part[: len(part) // 2], part[len(part) // 2 :]


def _concerns_all(outcome: Outcome) -> bool:
    return isinstance(outcome, (Interrupted, TimedOut)) or (
        isinstance(outcome, Failed) and isinstance(outcome.error, RetryLater)
    )


def _in_last_attempt(part: Sequence[Delivery], outcome: Outcome, retry: Retry) -> Mapping[bytes, Delivery]:
    """The deliveries that would not be retried, by entry id."""
    return {each.entry_id: each for each in part if not isinstance(decide(outcome, each, retry, 0.0), Delay)}


def _by_message(handling: Handling, deliveries: Sequence[Delivery], failed: BatchFailed) -> Outcomes:
    """The outcome of each message according to the handler's BatchFailed."""
    try:
        reported = BatchFailed(failed.errors, outputs=failed.outputs)
        if unknown := sorted(set(reported.errors).difference(range(len(deliveries)))):
            raise IndexError(f"BatchFailed names message {unknown[0]} of a batch of {len(deliveries)}")
    except Exception as error:  # noqa: BLE001  (a class of the user's that is derived from it, and may hold anything)
        return [((delivery,), Failed(error)) for delivery in deliveries]
    bad: Outcomes = [((deliveries[index],), handling.failed(error)) for index, error in reported.errors.items()]
    good = [delivery for index, delivery in enumerate(deliveries) if index not in reported.errors]
    if not good:
        return bad
    outcome = handling.given(reported.outputs, good[0])
    units = [good] if isinstance(outcome, Succeeded) else [[delivery] for delivery in good]
    return [*bad, *((unit, outcome) for unit in units)]
