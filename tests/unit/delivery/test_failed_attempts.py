"""The failed attempts of a message travel in its header: bounded, harmless, readable by every version."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.delivery.failed_attempts import Failure, after_failure, attempts_of, failures_of, stored_without_time
from flowq.delivery.history import Death, put_back
from flowq.delivery.message import Arrival, Delivery, Header
from flowq.delivery.settlement import Failed
from flowq.errors import Place, RetryLater

NEW = Header("m1", "m1", "-", 0)
PLACE = Place("pipelines/shop.py", 31)


def fails(header: Header, error: BaseException, place: Place | None = PLACE, *, counted: bool = True) -> Header:
    """The header after one more failed attempt, once through Redis."""
    again = Delivery(Arrival(">a", "w", 0), b"1-1", header.encode(), b"").retried(counted=counted)
    failed, _ = after_failure(again, header.attempt, Failed(error, place))
    return Header.decode(failed.encode())


def fails_at(header: Header, at_ms: int, error: BaseException, *, counted: bool = True) -> Header:
    """The same, with the time that Redis appends."""
    failed = fails(header, error, counted=counted)
    return Header.decode(stored_without_time(failed, header.attempt) + b"%d" % at_ms)


def times(header: Header) -> list[tuple[int, int, str, int | None]]:
    return [(each.first, each.last, each.error, each.at_ms) for each in attempts_of(header)]


def test_a_message_that_never_failed_carries_nothing() -> None:
    assert NEW.encode() == b"m1 - - 0"
    assert failures_of(NEW) == ()


def test_a_failure_travels_with_its_attempt_its_error_and_its_place() -> None:
    assert failures_of(fails(NEW, ValueError("bad price"))) == (
        Failure(1, 1, "ValueError: bad price", "pipelines/shop.py:31"),
    )


def test_attempts_that_failed_alike_are_one_failure_with_the_latest_numbers() -> None:
    header = fails(fails(fails(NEW, OSError("HTTP 503 after 11 s")), OSError("HTTP 502 after 2 s")), ValueError("x"))

    assert failures_of(header) == (
        Failure(1, 2, "OSError: HTTP 502 after 2 s", "pipelines/shop.py:31"),
        Failure(3, 3, "ValueError: x", "pipelines/shop.py:31"),
    )


def test_a_hold_is_a_failure_that_counts_as_no_attempt() -> None:
    held = fails(fails(NEW, RetryLater("HTTP 429", after=9, hold="host"), counted=False), ValueError("x"))

    assert [(each.first, each.last, each.error) for each in failures_of(held)] == [
        (1, 1, "RetryLater: HTTP 429"),
        (1, 1, "ValueError: x"),
    ]


def test_only_the_last_three_kinds_are_carried() -> None:
    header = NEW
    for name in "abcde":
        header = fails(header, ValueError(f"no such {name}"))

    assert [each.last for each in failures_of(header)] == [3, 4, 5]


@given(st.text(max_size=3000), st.text(min_size=1, max_size=3000), st.integers(1, 10**9))
def test_the_header_stays_small_and_whole_whatever_the_error_says(text: str, file: str, line: int) -> None:
    header = NEW
    for kind in (ValueError, KeyError, OSError, TypeError):
        header = fails(header, kind(text), Place(file, line))

    assert header.message_id == "m1"
    assert len(header.encode()) < 10_000
    assert header.encode().isascii()
    assert len(header.encode().split()) == 4 + 3  # attempt, first time, failures
    assert failures_of(header)[-1].error.startswith("TypeError")


def test_an_error_whose_text_fails_is_carried_all_the_same() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert failures_of(fails(NEW, Odd()))[-1].error == "Odd: its __str__ fails"


def test_a_file_name_that_is_no_text_is_carried_all_the_same() -> None:
    assert failures_of(fails(NEW, ValueError("x"), Place("b\udcfcro.py", 3)))[-1].place == "b\\udcfcro.py:3"


def test_a_message_that_is_put_back_starts_without_failures() -> None:
    died = fails(fails(NEW, ValueError("x")), ValueError("x"))

    assert failures_of(put_back(died, Death(1, 3, "ValueError: x"))) == ()


def test_what_an_earlier_version_has_put_back_is_not_blamed_on_this_life() -> None:
    """It keeps the word that it does not know, and starts with attempt 1."""
    died = fails(fails(NEW, ValueError("x")), ValueError("x"))

    assert failures_of(replace(died, attempt=1)) == ()


def test_a_failure_in_an_earlier_version_leaves_a_gap_and_hides_nothing() -> None:
    """It keeps the word that it does not know, and counts the attempt."""
    header = replace(fails(NEW, ValueError("x")), attempt=3)

    assert [(each.first, each.last) for each in failures_of(fails(header, ValueError("x")))] == [(1, 1), (3, 3)]


@pytest.mark.parametrize("word", ["x", "W10=", "WzEsMl0=", "WzAsMCwiIiwiIl0=", "WzIsMSwiIiwiIl0=", "." * 5000, "=" * 9])
def test_a_word_that_no_version_writes_is_no_failure(word: str) -> None:
    assert failures_of(replace(NEW, failures=word)) == ()


def test_each_failed_attempt_has_its_time_and_its_error() -> None:
    header = fails_at(fails_at(fails_at(NEW, 1000, OSError("E1")), 2000, OSError("E2")), 3000, ValueError("x"))

    assert times(header) == [(1, 1, "OSError: E2", 1000), (2, 2, "OSError: E2", 2000), (3, 3, "ValueError: x", 3000)]


def test_a_hold_and_the_attempt_that_it_was_not_have_their_own_times() -> None:
    closed = RetryLater("no", after=9, hold="host")
    header = fails_at(fails_at(fails_at(NEW, 1, closed, counted=False), 2, closed, counted=False), 3, ValueError("x"))

    assert times(header) == [
        (1, 1, "RetryLater: no", 1),
        (1, 1, "RetryLater: no", 2),
        (1, 1, "ValueError: x", 3),
    ]


def test_attempts_of_an_earlier_version_have_no_times_and_those_of_forgotten_kinds_no_errors() -> None:
    header = fails(fails(NEW, ValueError("x")), ValueError("x"))
    assert times(header) == [(1, 2, "ValueError: x", None)]

    header = fails_at(header, 3, ValueError("x"))
    assert times(header) == [(1, 2, "ValueError: x", None), (3, 3, "ValueError: x", 3)]

    for n, name in enumerate("abc"):
        header = fails_at(header, 4 + n, ValueError(f"no such {name}"))
    assert times(header) == [
        (3, 3, "", 3),
        *((4 + n, 4 + n, f"ValueError: no such {name}", 4 + n) for n, name in enumerate("abc")),
    ]


def test_an_earlier_version_keeps_the_times_and_leaves_a_gap() -> None:
    """It passes on the word that it does not know, and counts the attempt."""
    header = replace(fails_at(NEW, 1, ValueError("x")), attempt=3)

    assert times(fails_at(header, 3, ValueError("x"))) == [
        (1, 1, "ValueError: x", 1),
        (3, 3, "ValueError: x", 3),
    ]


def test_the_times_of_the_last_twenty_attempts_are_carried() -> None:
    header = NEW
    for n in range(1, 101):
        header = fails_at(header, 1_700_000_000_000 + n, ValueError("x"))

    assert [each.at_ms for each in attempts_of(header)] == [None, *(1_700_000_000_000 + n for n in range(81, 101))]
    assert len(header.encode()) < 600


def test_a_message_that_is_put_back_starts_without_times() -> None:
    died = fails_at(NEW, 1, ValueError("x"))

    assert attempts_of(put_back(died, Death(1, 2, "ValueError: x"))) == ()


@pytest.mark.parametrize(
    "word", ["1:", ":", "1:2:3", "0:1", "-1:5", "1:" + "9" * 400, "9:5", "x" * 9000, "٣:1", "." * 99]
)
def test_times_that_no_version_writes_are_left_out(word: str) -> None:
    header = fails_at(Header.decode(f"m1 - - 0 m={word}".encode()), 7, ValueError("x"))

    assert [each for each in times(header) if each[2]] == [(1, 1, "ValueError: x", 7)]
