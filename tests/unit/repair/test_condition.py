"""A condition compares a field of a message with a text, and does nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from flowq.dead_letters.condition import Condition
from flowq.errors import UsageError

MESSAGE: dict[str, Any] = {
    "dest": "SJU",
    "delay": 75,
    "share": 0.5,
    "tail": "10",
    "late": True,
    "gate": None,
    "flight": {"legs": [{"from": "JFK"}, {"from": "SJU"}]},
}


@pytest.mark.parametrize(
    "written",
    [
        "dest=SJU",
        "dest = SJU",
        "dest!=BQN",
        "dest~S*",
        "dest<T",
        "delay=75",
        "delay=75.0",
        "delay>=75",
        "delay<100",
        "share>0.25",
        "tail<9.5e1",
        "late=true",
        "gate=null",
        "flight.legs.1.from=SJU",
        "flight.legs~*JFK*",
        "nothing!=1",
        "late!=1",
    ],
)
def test_it_holds(written: str) -> None:
    assert Condition.parse(written).holds(MESSAGE)


@pytest.mark.parametrize(
    "written",
    [
        "dest=sju",
        "dest!=SJU",
        "dest~J*",
        "delay=7",
        "delay>75",
        "delay>=100",
        "nothing=1",
        "nothing<1",
        "nothing~*",
        "flight.legs.2.from=SJU",
        "flight.legs.from=SJU",
        "dest.code=SJU",
        "tail=10.0",
    ],
)
def test_it_does_not_hold(written: str) -> None:
    assert not Condition.parse(written).holds(MESSAGE)


@pytest.mark.parametrize("message", [None, 7, "text", [], [1]])
def test_a_message_without_fields_meets_no_condition(message: Any) -> None:
    assert not Condition.parse("dest=SJU").holds(message)


@pytest.mark.parametrize("written", ["", "dest", "=SJU", "__import__('os')", "a b=1"])
def test_anything_else_is_refused(written: str) -> None:
    with pytest.raises(UsageError, match="is not a condition"):
        Condition.parse(written)


def test_what_follows_the_comparison_is_mere_text() -> None:
    assert Condition.parse("dest==SJU or 1") == Condition("dest", "=", "=SJU or 1")
