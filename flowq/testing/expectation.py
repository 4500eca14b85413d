"""What a test expects of the outputs of a stage, and how they differ from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flowq.printable import printable
from flowq.testing.verdicts import NotAsExpected

__tracebackhide__ = True  # pytest shows the line of the test

_MOST_LINES = 10
_MOST_CHARACTERS = 200


class Expectation:
    """The outputs of one stage, to be compared once: made by `Harness.expect`.

    Each comparison raises NotAsExpected, which says what is missing and what was not expected.
    """

    def __init__(self, stage: str, outputs: Callable[[], Sequence[Any]], notes: Callable[[], Sequence[str]]) -> None:
        self.stage = stage
        self.is_compared = False
        self._outputs = outputs
        self._notes = notes

    def exactly(self, expected: Sequence[Any]) -> None:
        """These values, in this order, and no others."""
        found, expected = self._compare(), list(expected)
        if found != expected:
            missing, surplus = _difference(expected, found)
            self._fail(missing, surplus, "in another order" if not (missing or surplus) else "")

    def any_order(self, expected: Sequence[Any]) -> None:
        """These values, each as often as here, in any order, and no others."""
        missing, surplus = _difference(expected, self._compare())
        if missing or surplus:
            self._fail(missing, surplus)

    def containing(self, *expected: Any) -> None:
        """These values, in any order, and maybe others."""
        was_compared = self.is_compared
        missing, _ = _difference(expected, self._compare())
        self.is_compared = was_compared or bool(expected)  # that nothing is contained holds for any outputs
        if missing:
            self._fail(missing, ())

    def nothing(self) -> None:
        """No values at all."""
        self.exactly([])

    def _compare(self) -> list[Any]:
        self.is_compared = True
        return list(self._outputs())

    def _fail(self, missing: Sequence[Any], surplus: Sequence[Any], otherwise: str = "") -> None:
        counts = [f"{len(missing):,} missing"] * bool(missing) + [f"{len(surplus):,} not expected"] * bool(surplus)
        lines = [*_listed("missing", missing), *_listed("not expected", surplus), *self._notes()]
        raise NotAsExpected(
            f"the outputs of {self.stage} are not the expected ones: {', '.join(counts) or otherwise}",
            detail="\n  ".join(lines),
            hint="h.calls(stage) shows what a stage was called with, h.dead(stage) what it could not handle",
        )


def _difference(expected: Sequence[Any], found: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """What is only expected and what is only found. Values need be neither hashable nor sortable."""
    missing, surplus = list[Any](), list(found)
    for value in expected:
        if value in surplus:
            surplus.remove(value)
        else:
            missing.append(value)
    return missing, surplus


def _listed(what: str, values: Sequence[Any]) -> list[str]:
    lines = [f"{what}: {shortened(value)}" for value in values[:_MOST_LINES]]
    return lines + [f"{what}: {len(values) - _MOST_LINES:,} more"] * (len(values) > _MOST_LINES)


def shortened(value: Any) -> str:
    """A value on one line."""
    text = printable(repr(value))
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"
