"""Which keys are equal for a stage that deduplicates."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from itertools import combinations
from typing import Any
from uuid import UUID

import pytest

from flowq.delivery.encoding.dedup_key import NO_KEY, dedup_hash


class Word(StrEnum):
    RED = "red"


class Number(IntEnum):
    ONE = 1


class Colour(Enum):
    ONE = 1


@pytest.mark.parametrize("value", [None, float("nan"), Decimal("NaN")], ids=str)
def test_nothing_and_what_is_not_equal_to_itself_is_no_key(value: Any) -> None:
    assert dedup_hash(value) == NO_KEY


DIFFERENT = [
    "", "1", 1, True, 1.0, Decimal(1), "None", "nan", "True", Colour.ONE, b"1", (1, None), ("1", None), [1], {"n": 1},
    date(2026, 1, 1), "2026-01-01", UUID(int=1), str(UUID(int=1)), frozenset({1}), "x" * 1_000_000, "x" * 999_999,
    10**5000, "\ud800", "int 1",
]  # fmt: skip


def test_different_values_are_different_keys_whatever_their_text_is() -> None:
    for one, other in combinations(DIFFERENT, 2):
        assert dedup_hash(one) != dedup_hash(other), (one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("red", Word.RED), (1, Number.ONE), ({3, 1, 2}, {2, 3, 1}), ((1, "a"), (1, "a")), ("x" * 1000, "x" * 1000)],
    ids=str,
)
def test_equal_values_are_one_key(one: Any, other: Any) -> None:
    assert dedup_hash(one) == dedup_hash(other)


def test_a_set_is_the_same_key_in_every_process() -> None:
    code = "from flowq.delivery.encoding.dedup_key import dedup_hash; print(dedup_hash(set('abcdefgh')).hex())"
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(told) == 1


async def _coroutine() -> None: ...


def test_an_object_that_only_its_address_tells_from_others_is_refused() -> None:
    """Two objects may have the same address, one after the other: the second would be dropped."""
    coroutine = _coroutine()
    for value in (object(), lambda: None, (1, object()), coroutine):
        with pytest.raises(TypeError, match="is its address"):
            dedup_hash(value)
    coroutine.close()
