"""Passes batches to their handler, and splits a batch that fails: a bad message must not affect its neighbours."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from typing import Any

from flowq.delivery.message import Delivery
from flowq.delivery.policy import Retry
from flowq.delivery.settlement import Delay, Failed, Interrupted, Outcome, Succeeded, TimedOut, decide
from flowq.errors import BatchFailed, BodyElsewhere, DecodeError, Place, RetryLater
from flowq.runtime.handlers.frames import clear_frames_of
from flowq.runtime.handlers.handling import Handling
from flowq.runtime.handlers.own_context import in_context

Outcomes = list[tuple[Sequence[Delivery], Outcome]]

_MOST_CALLS_IN_VAIN = 15  # a batch, its halves, quarters and eighths


class BatchCall:
    """One batch on its way through its handler. `outcomes` are those of the parts that are done.

    Outputs belong to the part that produced them, which settles as one. Once `is_interrupted`, no more parts start.
    """

    def __init__(
        self, handling: Handling, deliveries: Sequence[Delivery], *, is_interrupted: Callable[[], bool] = lambda: False
    ) -> None:
        self.outcomes: Outcomes = []
        self._is_interrupted = is_interrupted
        self._handling = handling
        self._deliveries = deliveries

    async def run(self) -> None:
        """Call the handler until every delivery has an outcome.

        A batch whose handler fails is retried in halves, larger parts first: 2n - 1 calls at most. If the first 15
        calls all fail, the messages are hardly to blame: they wait for their next attempt, except for parts with a
        message in its last attempt. A failure that says nothing about single messages, such as a timeout, applies to
        all of them. Messages that time out in their last attempt are tried in halves too, to isolate the one that
        hangs, until 15 calls have timed out or the first 15 have all failed.
        """
        parts, retry = deque([self._deliveries]), self._handling.stage.retry
        n_calls, n_timeouts, any_succeeded = 0, 0, False
        outcome: Outcome = Succeeded(())
        while parts and not self._is_interrupted():
            part = parts.popleft()
            is_in_vain = n_calls >= _MOST_CALLS_IN_VAIN and not any_succeeded
            if is_in_vain and (isinstance(outcome, TimedOut) or not _in_last_attempt(part, outcome, retry)):
                self._add_to_each(part, outcome)
                continue
            # Decoded for each call: a failed handler may have changed its messages or their list.
            part, messages = await self._decoded(part)
            if not part:
                continue
            outcome = await in_context(copy_context(), self._handling.handle_message, messages, part[0])
            n_calls += 1
            if isinstance(outcome, Succeeded):
                self.outcomes.append((part, outcome))
                any_succeeded = True
            elif isinstance(outcome, Failed) and isinstance(outcome.error, BatchFailed):
                self.outcomes += _by_message(self._handling, part, outcome.error, outcome.place)
                any_succeeded = True
            elif isinstance(outcome, TimedOut) and len(part) > 1 and n_timeouts < _MOST_CALLS_IN_VAIN:
                n_timeouts += 1
                last = _in_last_attempt(part, outcome, retry)
                self._add_to_each([delivery for delivery in part if delivery.entry_id not in last], outcome)
                parts += _halves(part) if len(last) == len(part) else [list(last.values())] * bool(last)
            elif len(part) == 1 or _concerns_all(outcome):
                self._add_to_each(part, outcome)
            else:
                clear_frames_of(outcome)
                parts += _halves(part)
        if parts:  # the handler was interrupted, and did not end with that
            self.interrupt()

    def interrupt(self) -> None:
        """Hand back all deliveries without an outcome."""
        done = {delivery.entry_id for unit, _ in self.outcomes for delivery in unit}
        self._add_to_each([delivery for delivery in self._deliveries if delivery.entry_id not in done], Interrupted())

    def _add_to_each(self, deliveries: Sequence[Delivery], outcome: Outcome) -> None:
        self.outcomes.extend(((delivery,), outcome) for delivery in deliveries)

    async def _decoded(self, deliveries: Sequence[Delivery]) -> tuple[Sequence[Delivery], list[Any]]:
        """The deliveries that can be decoded, and their messages. The others get their outcomes."""
        good: list[Delivery] = []
        messages: list[Any] = []
        for delivery in deliveries:
            try:
                try:
                    message = self._handling.decode(delivery)
                except BodyElsewhere:
                    message = await self._handling.decode_claimed(delivery)
            except DecodeError as error:
                self.outcomes.append(((delivery,), await self._handling.undecoded(error, delivery)))
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


def _by_message(
    handling: Handling, deliveries: Sequence[Delivery], failed: BatchFailed, place: Place | None
) -> Outcomes:
    """The outcome of each message according to the handler's BatchFailed, which was raised at this place."""
    try:
        reported = BatchFailed(failed.errors, outputs=failed.outputs)
        if unknown := sorted(set(reported.errors).difference(range(len(deliveries)))):
            raise IndexError(f"BatchFailed names message {unknown[0]} of a batch of {len(deliveries)}")
    except Exception as error:  # noqa: BLE001  (a class of the user's that is derived from it, and may hold anything)
        return [((delivery,), Failed(error, place)) for delivery in deliveries]
    each_failed = {index: handling.failed(error) for index, error in reported.errors.items()}
    bad: Outcomes = [
        ((deliveries[index],), failed if failed.place else replace(failed, place=place))  # an error need not be raised
        for index, failed in each_failed.items()
    ]
    good = [delivery for index, delivery in enumerate(deliveries) if index not in reported.errors]
    if not good:
        return bad
    outcome = handling.returned(reported.outputs, good[0])
    units = [good] if isinstance(outcome, Succeeded) else [[delivery] for delivery in good]
    return [*bad, *((unit, outcome) for unit in units)]
