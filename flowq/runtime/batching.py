"""Hands a batch to its handler, and takes it apart when it fails: one bad message must not cost its neighbours."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from flowq.delivery.claim import stored_bytes
from flowq.delivery.message import Delivery
from flowq.delivery.settlement import Failed, Interrupted, Outcome, Succeeded
from flowq.errors import BatchFailed, BodyElsewhere, DecodeError, RetryLater
from flowq.graph.plan import Batch
from flowq.runtime.handling import Handling
from flowq.runtime.sleepers import Sleepers

Outcomes = list[tuple[Sequence[Delivery], Outcome]]
Interruptible = Callable[[Coroutine[Any, Any, Outcome]], Awaitable[Outcome]]


async def gather(
    batch: list[Delivery], todo: deque[Delivery], idle: Sleepers, limits: Batch, is_stopping: Callable[[], bool]
) -> None:
    """Add to a batch of one delivery what may end with it, until it is full or the first has waited long enough."""
    now = asyncio.get_running_loop().time
    size, max_bytes, n_bytes = limits.size, limits.max_bytes, stored_bytes(batch[0])
    deadline = now() + limits.linger_seconds
    while len(batch) < size and (max_bytes is None or n_bytes < max_bytes):
        if todo and todo[0].ends_with(batch[0]) and (max_bytes is None or n_bytes + stored_bytes(todo[0]) <= max_bytes):
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
    """The outcome of each part of a batch. Outputs belong to the part that gave them, which settles as one."""
    outcomes: Outcomes = []
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
    if good:
        await _halve(handling, good, messages, interruptible, outcomes)
    return outcomes


async def _halve(
    handling: Handling,
    deliveries: Sequence[Delivery],
    messages: list[Any],
    interruptible: Interruptible,
    outcomes: Outcomes,
) -> None:
    outcome = await interruptible(handling.handle_message(messages, deliveries[0]))
    if isinstance(outcome, Failed) and isinstance(outcome.error, BatchFailed):
        outcomes.extend(_told_apart(handling, deliveries, outcome.error))
        return
    concerns_all = isinstance(outcome, Interrupted) or (
        isinstance(outcome, Failed) and isinstance(outcome.error, RetryLater)
    )
    if isinstance(outcome, Succeeded):
        outcomes.append((deliveries, outcome))
    elif len(deliveries) == 1 or concerns_all:
        outcomes.extend(((delivery,), outcome) for delivery in deliveries)
    else:
        middle = len(deliveries) // 2
        await _halve(handling, deliveries[:middle], messages[:middle], interruptible, outcomes)
        await _halve(handling, deliveries[middle:], messages[middle:], interruptible, outcomes)


def _told_apart(handling: Handling, deliveries: Sequence[Delivery], failed: BatchFailed) -> Outcomes:
    """What became of each message, where the handler has told."""
    if unknown := sorted(set(failed.errors).difference(range(len(deliveries)))):
        error = IndexError(f"BatchFailed names message {unknown[0]} of a batch of {len(deliveries)}")
        return [((delivery,), Failed(error)) for delivery in deliveries]
    bad: Outcomes = [((deliveries[index],), handling.failed(error)) for index, error in failed.errors.items()]
    good = [delivery for index, delivery in enumerate(deliveries) if index not in failed.errors]
    if not good:
        return bad
    outcome = handling.given(failed.outputs, good[0])
    units = [good] if isinstance(outcome, Succeeded) else [[delivery] for delivery in good]
    return [*bad, *((unit, outcome) for unit in units)]
