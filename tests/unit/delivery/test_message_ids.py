"""User-defined ids fit into a header, and different ones stay different."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.delivery.message import LONGEST_ID_BYTES, Header, one_word

ids = st.one_of(
    st.text(min_size=1, max_size=20), st.text(alphabet=" _-%20\t\n\x00\u2028\u00a0aé", min_size=1, max_size=6)
)


def word_of(text: str) -> str | None:
    try:
        return one_word(text)
    except ValueError:
        return None


@given(ids, ids)
def test_different_ids_are_different_words_and_stand_in_a_header(one: str, other: str) -> None:
    words = word_of(one), word_of(other)
    for word in filter(None, words):
        assert Header.decode(Header(word, word, "-", 0).encode()).message_id == word
        assert word.isprintable()
        assert word != "-"
    if None not in words:
        assert (words[0] == words[1]) == (one == other)


@pytest.mark.parametrize("text", ["order-42", "a:b/c|d", "日本", "é", "a+b=c&d"])
def test_an_ordinary_id_stays_as_it_is(text: str) -> None:
    assert one_word(text) == text


@pytest.mark.parametrize("text", ["", "x" * (LONGEST_ID_BYTES + 1), "é" * 129, " " * 86, "\ud800"])
def test_an_id_that_is_empty_or_long_or_no_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it "):
        one_word(text)
