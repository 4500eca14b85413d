"""The meaning of a group of errors, whatever its contents and depth."""

from __future__ import annotations

import pytest

from flowq import Reject, Retry, RetryLater
from flowq.delivery.dead_letter import error_line, user_traceback
from flowq.delivery.error_groups import leaves_of, meant_by
from flowq.delivery.message import Arrival, Delivery
from flowq.delivery.settlement import DeadLetter, Delay, Failed, decide
from flowq.errors import UsageError

DELIVERY = Delivery(Arrival("a>b", "w", 0), b"1-0", b"m1 - - 0", b"{}")
RETRY = Retry(attempts=3, give_up_on=KeyError)


def group(*errors: BaseException) -> BaseException:
    return BaseExceptionGroup("unhandled errors in a TaskGroup", list(errors))


def fate(error: BaseException, retry: Retry = RETRY) -> str:
    """Delayed, or the reason of the dead letter."""
    settlement = decide(Failed(meant_by(error)), DELIVERY, retry, 0.5)
    return (
        "delayed" if isinstance(settlement, Delay) else settlement.reason if isinstance(settlement, DeadLetter) else "?"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Reject("gone"), "rejected"),
        (group(Reject("gone")), "rejected"),
        (group(Reject("gone"), Reject("gone as well")), "rejected"),
        (group(group(group(Reject("deep")))), "rejected"),
        (group(KeyError("id")), "not retryable"),
        (group(KeyError("id"), group(KeyError("id"))), "not retryable"),
        (group(KeyError("id"), Reject("gone")), "not retryable"),
        (group(UsageError("misused")), "not retryable"),
        (group(ConnectionError()), "delayed"),
        (group(ConnectionError(), Reject("gone")), "delayed"),
        (group(group(KeyError("id")), group(ConnectionError())), "delayed"),
        (group(Reject("gone"), RetryLater(after=5)), "delayed"),
        (group(SystemExit(1)), "not retryable"),
    ],
    ids=repr,
)
def test_a_group_is_tried_again_when_one_of_its_errors_would_be(error: BaseException, expected: str) -> None:
    assert fate(error) == expected


@pytest.mark.parametrize(
    ("on", "error", "expected"),
    [
        (ConnectionError, group(ConnectionError()), "delayed"),
        (ConnectionError, group(ValueError(), ValueError()), "not retryable"),
        (BaseExceptionGroup, group(ValueError(), TypeError()), "delayed"),
    ],
)
def test_on_holds_for_what_is_in_the_group_and_for_groups_if_it_names_them(
    on: type[BaseException], error: BaseException, expected: str
) -> None:
    assert fate(error, Retry(on=on)) == expected


def test_give_up_on_groups_gives_up_on_groups_of_several() -> None:
    assert fate(group(ValueError(), TypeError()), Retry(give_up_on=ExceptionGroup)) == "not retryable"


def test_the_longest_wait_counts_and_a_hold_before_all_others() -> None:
    shorter, longer = RetryLater(after=5), RetryLater(after=30)
    held = RetryLater(after=1, hold="host")

    assert meant_by(group(shorter, ValueError(), group(longer))) is longer
    assert meant_by(group(longer, held)) is held


def test_the_line_of_a_group_names_its_first_error_and_counts_the_others() -> None:
    assert error_line(group(Reject("gone"))) == "Reject: gone"
    assert error_line(group(group(KeyError("id")), ValueError(), ValueError())) == "KeyError: 'id' (and 2 more)"


def test_a_group_of_ten_thousand_in_a_thousand_levels_is_read() -> None:
    error: BaseException = ValueError()
    for _ in range(1000):
        error = group(error, *[ValueError()] * 9)

    assert sum(1 for _ in leaves_of(error)) == 9001
    assert fate(error) == "delayed"


def test_the_traceback_of_a_group_shows_what_is_in_it() -> None:
    def failing() -> None:
        raise ValueError("inside")

    errors: list[Exception] = []
    try:
        failing()
    except ValueError as error:
        errors.append(error)
    try:
        raise ExceptionGroup("outside", errors)
    except ExceptionGroup as error:
        text = user_traceback(error)

    assert "ValueError: inside" in text
    assert "in failing" in text
