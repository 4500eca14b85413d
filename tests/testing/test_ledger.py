"""A ledger names the effects that are missing, came twice, or contradict each other."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from flowq.testing import Ledger


def test_keys_that_were_expected_and_never_noted_are_missing_in_their_order() -> None:
    ledger = Ledger()
    ledger.expect(["c", "a"])
    ledger.expect(["b"])
    ledger.note("a")

    assert ledger.missing == ["c", "b"]
    with pytest.raises(AssertionError, match="missing: 'c', 'b'"):
        ledger.check()


def test_the_same_value_again_is_repeated_and_another_value_is_conflicting() -> None:
    ledger = Ledger()
    for key, value in [("once", 1), ("again", 1), ("changed", 1), ("again", 1), ("changed", 2)]:
        ledger.note(key, value)

    assert ledger.doubled == ["again", "changed"]
    assert (ledger.repeated, ledger.conflicting) == (["again"], ["changed"])
    with pytest.raises(AssertionError) as raised:
        ledger.check()
    assert str(raised.value).splitlines()[1:3] == ["  doubled: 'again' (2 times)", "  conflicting: 'changed' (1, 2)"]


def test_an_idempotent_sink_accepts_the_same_effect_twice_and_no_other_value() -> None:
    ledger = Ledger(is_idempotent=True)
    ledger.note("a", {"price": 1})
    ledger.note("a", {"price": 1})
    ledger.check()

    ledger.note("a", {"price": 2})
    with pytest.raises(AssertionError, match="conflicting: 'a'"):
        ledger.check()


def test_a_key_that_is_not_among_those_expected_is_unexpected() -> None:
    ledger = Ledger()
    ledger.note("b")
    ledger.check()  # nothing is expected yet

    ledger.expect(["a"])
    assert ledger.unexpected == ["b"]
    with pytest.raises(AssertionError, match=r"missing: 'a'\n *unexpected: 'b'"):
        ledger.check()


def test_expecting_no_keys_at_all_makes_every_key_unexpected() -> None:
    ledger = Ledger()
    ledger.expect([])
    ledger.note("a")

    assert ledger.unexpected == ["a"]


def test_a_long_list_of_keys_is_cut() -> None:
    ledger = Ledger()
    ledger.expect(range(1000))

    with pytest.raises(AssertionError, match=r"missing: 0, 1, 2, 3, 4 and 995 more\n"):
        ledger.check()


def test_threads_may_share_a_ledger() -> None:
    ledger = Ledger()
    keys = [key for key in range(500) for _ in range(3)]
    random.Random(5).shuffle(keys)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ledger.note, keys))

    assert {key: len(values) for key, values in ledger.noted.items()} == dict.fromkeys(range(500), 3)
