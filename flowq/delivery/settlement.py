"""The one table of rules: what a handler did, and what therefore happens to the delivery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, assert_never, cast

from flowq.delivery.message import Delivery, Header, Row
from flowq.delivery.policy import Retry
from flowq.errors import Place, Reject, RetryLater

ROLLOUT_SECONDS = 3600.0
"""How long two versions of a pipeline may run side by side, each leaving to the other what it cannot read."""
_LEFT_TO_OTHERS_MS = 2000


class Output(NamedTuple):
    """One encoded message for one edge. `dedup_hash` is empty where the receiving stage does not deduplicate."""

    edge: str
    header: bytes
    body: bytes
    dedup_hash: bytes = b""
    delay_ms: int = 0


# What a handler did


class Succeeded(NamedTuple):
    """The handler finished. It is its own settlement: the delivery is removed and its outputs appended, atomically.

    `filtered`, without outputs, means that it returned None on purpose. `pace_seconds` is the interval that it asked
    for between two starts of its pacing key; 0 if it did not ask.
    """

    outputs: Sequence[Output] = ()
    filtered: bool = False
    pace_seconds: float = 0.0


_new = cast("Any", tuple.__new__)  # pyright: ignore[reportUnknownMemberType]
new_output: Callable[[tuple[str, bytes, bytes, bytes, int]], Output] = partial(_new, Output)
new_success: Callable[[tuple[Sequence[Output], bool, float]], Succeeded] = partial(_new, Succeeded)
"""Made of all their fields in two thirds of the time: every message that is sent on needs one of each."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler raised. `place` is the deepest line of the user's own code that was reached."""

    error: BaseException
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The handler ran longer than the stage allows. `place` is the line that it was at."""

    after_seconds: float
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Undecodable:
    """The body is not a message of a type that the stage accepts."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Unfamiliar:
    """The message cannot be read here, but another version of the pipeline may be able to read it."""

    error: Exception
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Unencodable:
    """An output does not fit the declared types, the size limit, or JSON."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The worker is stopping, and the handler did not finish in time or never started."""


@dataclass(frozen=True, slots=True)
class Postponed:
    """The handler was not called, because the key of the message must wait. This does not count as an attempt.

    `granted`: its turn comes after `delay_seconds`. Otherwise it waits in the queue of its `key` until it is called.
    """

    delay_seconds: float = 0.0
    granted: bool = False
    key: str = ""


Outcome = Succeeded | Failed | TimedOut | Undecodable | Unfamiliar | Unencodable | Interrupted | Postponed


# What happens to the delivery


@dataclass(frozen=True, slots=True)
class Delay:
    """Run it again after `delay_ms`, or when its turn comes in the queue of its pacing key.

    `failed` is why, if its attempt failed. The header does not contain that failure yet.
    """

    header: Header
    delay_ms: int
    counted: bool
    queue_key: str | None = None
    failed: Failed | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Set it aside with the reason, for a person to inspect. `place` is where in the user's code the error was."""

    reason: str
    error: BaseException | None
    header: Header
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """Hand it back unchanged, for any worker to run at once."""


Settlement = Succeeded | Delay | DeadLetter | Release

Settled = tuple[Sequence[Row], Settlement]
"""Deliveries that end alike, and how. Those of one batch call end together, if they have outputs."""


class HandlerTimeout(Exception):
    """A handler ran longer than the `timeout` of its stage."""


def decide(outcome: Outcome, row: Row, retry: Retry, jitter: float) -> Settlement:
    """Turn an outcome into a settlement; `jitter` is a random number from 0 to 1 drawn by the caller.

    Failures are counted against `retry.attempts`; interruptions, postponements, holds and what is left to another
    version of the pipeline are not.
    """
    if isinstance(outcome, Succeeded):
        return outcome
    delivery = Delivery(*row)
    match outcome:
        case Interrupted():
            return Release()
        case Postponed(delay_seconds, granted, key):
            header = replace(delivery.header, granted=granted)
            return Delay(header, round(delay_seconds * 1000), counted=False, queue_key=None if granted else key)
        case Undecodable() | Unfamiliar():
            return _unread(outcome, delivery)
        case Unencodable(error):
            return DeadLetter("unencodable", error, delivery.header)
        case TimedOut(after_seconds, place):
            error = HandlerTimeout(f"ran longer than {after_seconds:g} s")
            return _another_try(Failed(error, place), None, delivery, retry, jitter)
        case Failed(Reject() as error, place):
            return DeadLetter("rejected", error, delivery.header, place)
        case Failed(RetryLater(after=after, hold=None)):
            return _another_try(outcome, after, delivery, retry, jitter)
        case Failed(RetryLater(after=after)):
            return Delay(delivery.retried(counted=False), round(after * 1000), counted=True, failed=outcome)
        case Failed(error) if retry.is_retryable(error):
            return _another_try(outcome, None, delivery, retry, jitter)
        case Failed(error, place):
            return DeadLetter("not retryable", error, delivery.header, place)
        case _:
            assert_never(outcome)


def _unread(outcome: Undecodable | Unfamiliar, delivery: Delivery) -> Settlement:
    if isinstance(outcome, Unfamiliar) and outcome.age_seconds < ROLLOUT_SECONDS:
        left = Failed(outcome.error)
        return Delay(delivery.retried(counted=False), _LEFT_TO_OTHERS_MS, counted=False, failed=left)
    return DeadLetter("undecodable", outcome.error, delivery.header)


def _another_try(
    failed: Failed, after_seconds: float | None, delivery: Delivery, retry: Retry, jitter: float
) -> Settlement:
    attempt = delivery.header.attempt
    if attempt >= retry.attempts:
        return DeadLetter("attempts exhausted", failed.error, delivery.header, failed.place)
    if after_seconds is None:
        after_seconds = retry.backoff.delay_seconds(attempt=attempt, jitter=jitter)
    return Delay(delivery.retried(counted=True), round(after_seconds * 1000), counted=True, failed=failed)
