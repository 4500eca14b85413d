"""The Retry-After header in both of its forms, and in forms that it should not have."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from flowq import retry_after


class Answer:
    """What HTTP clients give, as far as it matters."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 3 ", 3.0),
        ("0", 0.0),
        ("0.5", 0.5),
        ("-1", 7.0),
        ("soon", 7.0),
        ("", 7.0),
        ("inf", 7.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 1000.0),
        ("9" * 400, 1000.0),
    ],
)
def test_a_header_is_never_longer_than_it_may_be_nor_negative_nor_an_error(header: str, seconds: float) -> None:
    assert retry_after(header, default=7.0, longest=1000.0) == seconds
    assert retry_after(Answer({"Retry-After": header}), default=7.0, longest=1000.0) == seconds


def test_an_answer_without_the_header_waits_for_the_default() -> None:
    assert retry_after(Answer({}), default=7.0) == retry_after(None, default=7.0) == 7.0


def test_a_date_is_as_far_away_as_it_says() -> None:
    assert 28 < retry_after(formatdate(time.time() + 30, usegmt=True)) <= 30
