"""What this version of a pipeline cannot read is left to another for an hour, then becomes a dead letter."""

from __future__ import annotations

import pytest

from flowq.delivery.message import Arrival, Delivery, Header
from flowq.delivery.policy import Retry
from flowq.delivery.settlement import DeadLetter, Delay, Unfamiliar, decide

APPENDED_MS = 1_700_000_000_000
ERROR = ValueError("not known here")


def delivery(header: Header | None = None) -> Delivery:
    header = header or Header("b7", "a1", "a1", 1, type_tag="Image")
    return Delivery(Arrival("fetch>parse", "worker", 0), f"{APPENDED_MS}-0".encode(), header.encode(), b"{}")


@pytest.mark.parametrize("age_seconds", [-5.0, 0.0, 3599.9])
def test_a_young_message_waits_a_little_for_the_other_version(age_seconds: float) -> None:
    settlement = decide(Unfamiliar(ERROR, age_seconds), delivery(), Retry(attempts=1), jitter=1.0)

    assert isinstance(settlement, Delay)
    assert 500 <= settlement.delay_ms <= 10_000


def test_waiting_is_counted_neither_as_an_attempt_nor_as_a_retry() -> None:
    header = Header("b7", "a1", "a1", 1, attempt=4, type_tag="Image")

    settlement = decide(Unfamiliar(ERROR, 1.0), delivery(header), Retry(attempts=4), jitter=1.0)

    assert isinstance(settlement, Delay)
    assert not settlement.counted
    assert (settlement.header.attempt, settlement.header.type_tag) == (4, "Image")


def test_waiting_does_not_make_a_message_younger() -> None:
    first = delivery()

    settlement = decide(Unfamiliar(ERROR, 1.0), first, Retry(), jitter=1.0)

    assert isinstance(settlement, Delay)
    later = Delivery(Arrival("fetch>parse", "worker", 0), b"1700000009000-0", settlement.header.encode(), b"{}")
    assert later.age_seconds(APPENDED_MS / 1000 + 9.0) == 9.0


def test_after_an_hour_it_is_a_dead_letter_like_any_other_that_cannot_be_read() -> None:
    settlement = decide(Unfamiliar(ERROR, 3600.0), delivery(), Retry(attempts=5), jitter=1.0)

    assert isinstance(settlement, DeadLetter)
    assert (settlement.reason, settlement.error) == ("undecodable", ERROR)
