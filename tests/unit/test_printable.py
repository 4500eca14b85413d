"""Text from outside reaches the terminal as text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.printable import json_text, printable, printable_lines

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("plain [red]text[/red] ü 東京", "plain [red]text[/red] ü 東京"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202ecod.exe", "\\u202ecod.exe"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_does_not_print_is_spelled_out(given_text: str, shown: str) -> None:
    assert printable(given_text) == shown


@given(st.text())
def test_nothing_that_does_not_print_is_left(text: str) -> None:
    assert printable(text).isprintable()
    assert all(line.isprintable() for line in printable_lines(text))


@given(JSON, st.booleans())
def test_json_means_the_same_and_prints(value: Any, indent: bool) -> None:
    text = json_text(value, indent=indent)

    assert json.loads(text) == value
    assert text.replace("\n", "").isprintable()
