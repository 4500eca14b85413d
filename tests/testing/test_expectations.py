"""What a test expects of outputs: what differs is named, and an expectation that compares nothing fails."""

from __future__ import annotations

import pytest

from flowq import Pipeline, Retry, stage
from flowq.testing import NeverCompared, NotAsExpected, harness
from tests.testing.doubled_numbers import NUMBERS, double, keep


@pytest.mark.parametrize(
    ("expected", "problem"),
    [
        ([2, 4], "1 not expected"),
        ([2, 4, 6, 8], "1 missing"),
        ([4, 2, 6], "in another order"),
        ([2, 4, 7], "1 missing, 1 not expected"),
    ],
)
async def test_what_differs_is_named(expected: list[int], problem: str) -> None:
    async with harness(NUMBERS) as h:
        await h.feed(double, 1, 2, 3)
        await h.drain()

        with pytest.raises(
            NotAsExpected, match=f"^error.FQ603.: the outputs of keep are not the expected ones: {problem}"
        ):
            h.expect(keep).exactly(expected)


async def test_other_comparisons() -> None:
    async with harness(NUMBERS) as h:
        h.expect(keep).nothing()
        await h.feed(double, 1, 2, 3)
        await h.drain()

        h.expect(keep).any_order([6, 2, 4])
        h.expect(keep).containing(4, 2)
        with pytest.raises(NotAsExpected):
            h.expect(keep).any_order([2, 4])
        with pytest.raises(NotAsExpected):
            h.expect(keep).containing(2, 2)
        with pytest.raises(NotAsExpected):
            h.expect(keep).nothing()


async def test_an_expectation_that_compares_nothing_fails_the_test() -> None:
    with pytest.raises(NeverCompared, match=r"h\.expect\(keep\) has compared nothing"):
        async with harness(NUMBERS) as h:
            h.expect(keep)


async def test_the_error_of_the_test_itself_is_the_one_that_is_raised() -> None:
    async def fails() -> None:
        async with harness(NUMBERS) as h:
            await h.feed(double, 1)
            h.expect(keep)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()


async def test_an_error_with_escape_sequences_is_shown_without_them() -> None:
    @stage(retry=Retry(attempts=1))
    async def paints(number: int) -> None:
        raise ValueError("\x1b[31mred")

    async with harness(Pipeline("p", paints)) as h:
        await h.feed(paints, 1)
        await h.drain()
        with pytest.raises(NotAsExpected) as caught:
            h.expect(paints).exactly([1])

    assert "\x1b" not in str(caught.value)
    assert "red" in str(caught.value)
