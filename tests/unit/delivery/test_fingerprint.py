"""A fingerprint tells kinds of failure apart by their words and place, not by their numbers."""

from __future__ import annotations

import pytest

from flowq.delivery.fingerprint import fingerprint, last_frame

AT_FETCH = 'Traceback (most recent call last):\n  File "/app/flow.py", line 12, in fetch\n    raise\nValueError: no\n'


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ValueError: row 17", "ValueError: row 4211"),
        ("HTTPError: 503 after 1.25 s", "HTTPError: 504 after 30.5 s"),
        ("KeyError: at 0x7f3aa0", "KeyError: at 0x88"),
        (
            "Reject: order 0b5f1c62-93a5-4a4d-9d8f-0e5d7b6f3c11",
            "Reject: order 7c9e6679-7425-40de-944b-e07fc1f90ae7",
        ),
    ],
)
def test_errors_that_differ_in_numbers_alone_are_of_one_kind(one: str, other: str) -> None:
    assert fingerprint(one, AT_FETCH) == fingerprint(other, AT_FETCH)


@pytest.mark.parametrize(
    ("error", "traceback"),
    [
        ("ValueError: yes", AT_FETCH),
        ("KeyError: no", AT_FETCH),
        ("ValueError: no", AT_FETCH.replace("fetch", "parse")),
        ("ValueError: no", ""),
    ],
)
def test_other_words_or_another_place_are_another_kind(error: str, traceback: str) -> None:
    assert fingerprint(error, traceback) != fingerprint("ValueError: no", AT_FETCH)


def test_a_line_added_above_the_function_keeps_the_kind() -> None:
    assert fingerprint("ValueError: no", AT_FETCH) == fingerprint("ValueError: no", AT_FETCH.replace("12", "13"))


def test_the_last_frame_is_where_it_was_raised() -> None:
    deeper = AT_FETCH.replace("    raise\n", '    f()\n  File "/app/my lib.py", line 3, in <lambda>\n    raise\n')

    assert last_frame(deeper) == ("/app/my lib.py", 3, "<lambda>")
    assert last_frame("") is None
