"""What a stage holds, and what it has in_flight while a question was under way."""

from __future__ import annotations

from flowq.delivery.message import Delivery
from flowq.delivery.settlement import Release
from flowq.runtime.stage.in_flight import InFlight


def delivery(entry_id: bytes) -> Delivery:
    return Delivery("a>b", entry_id, b"m - - 0", b"", "worker", 1)


def test_what_is_given_twice_is_held_once() -> None:
    in_flight = InFlight()

    assert in_flight.take([delivery(b"1-0"), delivery(b"2-0")]) == [delivery(b"1-0"), delivery(b"2-0")]
    assert in_flight.take([delivery(b"2-0"), delivery(b"3-0")]) == [delivery(b"3-0")]

    assert in_flight.n == 3
    assert in_flight.let_go("a>b", [((delivery(b"1-0"), delivery(b"9-0")), Release())]) == 1
    assert in_flight.n == 2


def test_what_was_taken_and_let_go_during_a_question_is_known_when_its_answer_comes() -> None:
    in_flight = InFlight()
    in_flight.take([delivery(b"before")])

    with in_flight.watched() as known:
        in_flight.take([delivery(b"during")])
        for entry_id in (b"before", b"during"):
            in_flight.let_go("a>b", [((delivery(entry_id),), Release())])

    assert in_flight.n == 0
    assert ("a>b", b"before") in known
    assert ("a>b", b"during") in known
    assert ("a>b", b"never") not in known
