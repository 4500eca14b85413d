"""The settlement of a delivery, for each outcome of its handling."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowq import Reject, Retry, RetryLater
from flowq.delivery.message import Arrival, Delivery, Header
from flowq.delivery.settlement import (
    DeadLetter,
    Delay,
    Failed,
    HandlerTimeout,
    Interrupted,
    Outcome,
    Output,
    Postponed,
    Release,
    Settlement,
    Succeeded,
    TimedOut,
    Undecodable,
    Unencodable,
    decide,
)
from flowq.errors import DecodeError, EncodeError, Place

NOW_MS = 1_700_000_000_000
RETRY = Retry(attempts=3, base=10, max=60, on=OSError, jitter=False)
OUTPUT = Output("a>b", b"m2 m1 m1 1", b"{}")
FAILED, REJECTED, BROKEN = OSError("x"), Reject("no"), ValueError("x")
BUSY, HELD = RetryLater("busy", after=7), RetryLater("held", after=7, hold="host")
PLACE = Place("pipelines/shop.py", 31)
ENCODE, DECODE = EncodeError("x"), DecodeError("x")


def delivery(attempt: int = 1) -> Delivery:
    header = Header("m1", "m1", "-", 0, attempt=attempt, first_ms=NOW_MS)
    return Delivery(Arrival("a>b", "w", 0), b"%d-0" % NOW_MS, header.encode(), b"{}")


def again(attempt: int, **changes: object) -> Header:
    return replace(delivery(attempt).header, **changes)  # type: ignore[arg-type]


TABLE: list[tuple[Outcome, int, Settlement]] = [
    (Succeeded(()), 1, Succeeded(())),
    (Succeeded((OUTPUT,)), 3, Succeeded((OUTPUT,))),
    (Succeeded((), filtered=True), 1, Succeeded((), filtered=True)),
    (Interrupted(), 2, Release()),
    (Postponed(1.5, granted=True), 2, Delay(again(2, granted=True), 1500, counted=False)),
    (Postponed(key="a.example"), 2, Delay(again(2), 0, counted=False, queue_key="a.example")),
    (Undecodable(DECODE), 1, DeadLetter("undecodable", DECODE, again(1))),
    (Unencodable(ENCODE), 1, DeadLetter("unencodable", ENCODE, again(1))),
    (Failed(REJECTED), 1, DeadLetter("rejected", REJECTED, again(1))),
    (Failed(BROKEN), 1, DeadLetter("not retryable", BROKEN, again(1))),
    (Failed(FAILED, PLACE), 1, Delay(again(2), 10_000, counted=True, failed=Failed(FAILED, PLACE))),
    (Failed(FAILED), 2, Delay(again(3), 20_000, counted=True, failed=Failed(FAILED))),
    (Failed(FAILED), 3, DeadLetter("attempts exhausted", FAILED, again(3))),
    (Failed(BUSY), 1, Delay(again(2), 7000, counted=True, failed=Failed(BUSY))),
    (Failed(HELD), 3, Delay(again(3), 7000, counted=True, failed=Failed(HELD))),
]


@pytest.mark.parametrize(
    ("outcome", "attempt", "expected"), TABLE, ids=[f"{row[0]}, attempt {row[1]}" for row in TABLE]
)
def test_each_outcome_has_its_settlement(outcome: Outcome, attempt: int, expected: Settlement) -> None:
    assert decide(outcome, delivery(attempt), RETRY, 1.0) == expected


def test_a_handler_that_takes_too_long_is_tried_again_when_timeouts_are() -> None:
    first, last = (decide(TimedOut(5.0), delivery(attempt), RETRY, 1.0) for attempt in (1, 3))

    assert isinstance(first, Delay)
    assert (first.header, first.delay_ms, first.counted) == (again(2), 10_000, True)
    assert first.failed is not None
    assert isinstance(first.failed.error, HandlerTimeout)
    assert isinstance(last, DeadLetter)
    assert last.reason == "attempts exhausted"
    assert isinstance(last.error, HandlerTimeout)


def test_retry_later_counts_as_an_attempt() -> None:
    error = RetryLater("busy", after=7)
    assert decide(Failed(error), delivery(3), RETRY, 1.0) == DeadLetter("attempts exhausted", error, again(3))
