"""What a stage has in flight, and what it had in flight while a request was under way."""

from __future__ import annotations

import pytest

from flowq import Pipeline, stage
from flowq.broker.flow_control.backpressure import Backpressure
from flowq.broker.settling import Receipt
from flowq.delivery.message import Arrival, Delivery
from flowq.delivery.settlement import Release
from flowq.runtime.stage.in_flight import InFlight
from tests.runtime.lab import Item, Lab


@stage
async def see(item: Item) -> None: ...


def delivery(entry_id: bytes) -> Delivery:
    return Delivery(Arrival("a>b", "worker", 1), entry_id, b"m - - 0", b"")


def settle(in_flight: InFlight, *entry_ids: bytes) -> None:
    released = [((delivery(entry_id),), Release()) for entry_id in entry_ids]
    in_flight.settle("a>b", released, 0, Receipt(sent=0, won=0, outstanding={}, delayed=False))


@pytest.fixture
def in_flight(any_lab: Lab) -> InFlight:
    return InFlight(Backpressure(any_lab.broker(Pipeline("p", see)), []))


async def test_what_is_delivered_twice_is_in_flight_once(in_flight: InFlight) -> None:
    assert in_flight.receive([delivery(b"1-0"), delivery(b"2-0")]) == [delivery(b"1-0"), delivery(b"2-0")]
    assert in_flight.receive([delivery(b"2-0"), delivery(b"3-0")]) == [delivery(b"3-0")]
    assert in_flight.n == 3

    settle(in_flight, b"1-0", b"9-0")

    assert in_flight.n == 2
    assert in_flight.changed.is_set()


async def test_what_came_and_was_settled_during_a_question_is_known_when_its_answer_comes(in_flight: InFlight) -> None:
    in_flight.receive([delivery(b"before")])

    with in_flight.watched() as known:
        in_flight.receive([delivery(b"during")])
        settle(in_flight, b"before", b"during")

    assert in_flight.n == 0
    assert ("a>b", b"before") in known
    assert ("a>b", b"during") in known
    assert ("a>b", b"never") not in known
