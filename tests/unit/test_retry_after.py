"""The Retry-After header in both forms, and in invalid ones."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq import retry_after


class Answer:
    """What HTTP clients give, as far as it matters."""

    def __init__(self, headers: dict[str, str | bytes]) -> None:
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
        ("9" * 5000, 1000.0),
        ("-5.5", 7.0),
        ("1e3", 7.0),
        (".", 7.0),
        ("3, 20", 20.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT, 20", 20.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT, Fri, 31 Dec 9999 23:59:59 GMT", 1000.0),
        ("Fri, 31 Dec 99999999 23:59:59 GMT", 7.0),
        ("Fri, 31 Dec 1999 23:59:59 +99999999999", 7.0),
    ],
)
def test_a_header_is_never_longer_than_it_may_be_nor_negative_nor_an_error(header: str, seconds: float) -> None:
    assert retry_after(header, default=7.0, longest=1000.0) == seconds
    assert retry_after(Answer({"Retry-After": header}), default=7.0, longest=1000.0) == seconds


def test_an_answer_without_the_header_waits_for_the_default() -> None:
    assert retry_after(Answer({}), default=7.0) == retry_after(None, default=7.0) == 7.0


def test_a_date_is_as_far_away_as_it_says() -> None:
    assert 590 < retry_after(formatdate(time.time() + 600, usegmt=True)) <= 600


@pytest.mark.parametrize("zone", ["UTC0", "JST-9", "EST5"])
@pytest.mark.parametrize(
    "form",
    [
        "%a, %d %b %Y %H:%M:%S GMT",  # IMF-fixdate
        "%A, %d-%b-%y %H:%M:%S GMT",  # RFC 850
        "%a %b %e %H:%M:%S %Y",  # asctime
        "%a, %d %b %Y %H:%M:%S -0000",
        "%a, %d %b %Y %H:%M:%S",
    ],
)
def test_a_date_is_utc_whatever_the_zone_of_the_machine(form: str, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert 590 < retry_after(time.strftime(form, time.gmtime(time.time() + 600))) <= 600
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_header_may_be_bytes() -> None:
    assert retry_after(Answer({"Retry-After": b"12"})) == 12.0


@given(text=st.text() | st.from_regex(r"\A[A-Z][a-z]{2},? ?\d* [A-Z][a-z]{2} -?\d* \d*:\d* [+-]?\d*\Z"))
def test_no_header_is_an_error(text: str) -> None:
    assert 0.0 <= retry_after(text) <= 86_400.0
