"""Expects that a handler rejects its message, or asks to retry it later."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isclose
from typing import Generic, TypeVar

from flowq.delivery.error_groups import meant_by
from flowq.durations import seconds
from flowq.errors import Reject, RetryLater
from flowq.printable import error_repr
from flowq.testing.verdicts import NotAsExpected

E = TypeVar("E", Reject, RetryLater)


@dataclass
class Raised(Generic[E]):
    """What was raised: `error`, once the `with` block has ended."""

    _error: E | None = None

    @property
    def error(self) -> E:
        assert self._error is not None, "nothing has been raised yet: read it after the with block"
        return self._error

    def note(self, error: E) -> None:
        """Keep the error."""
        self._error = error


@contextmanager
def raises_reject(match: str = "") -> Generator[Raised[Reject]]:
    """Expect that the block raises `Reject`, as a handler does whose message must become a dead letter at once.

    match: a regular expression that is searched for in the reason.

    A group of errors, as `asyncio.TaskGroup` raises it, counts as the error that decides what happens to the message.
    Raises NotAsExpected if the block raises nothing, or if the reason does not match; lets every other error pass.

    >>> with raises_reject(match="404") as raised:
    ...     raise Reject("HTTP 404")
    >>> raised.error.reason
    'HTTP 404'
    """
    raised = Raised[Reject]()
    try:
        yield raised
    except Exception as error:
        meant = meant_by(error)
        if not isinstance(meant, Reject):
            raise
        _check_reason(meant, match)
        raised.note(meant)
    else:
        raise NotAsExpected("nothing was raised, where Reject was expected")


@contextmanager
def raises_retry(
    match: str = "", *, after: float | str | None = None, hold: str | None = None
) -> Generator[Raised[RetryLater]]:
    """Expect that the block raises `RetryLater`, as a handler does whose message must run again later.

    match: a regular expression that is searched for in the reason.
    after: how long the retry must wait: seconds, or text such as "5m" (any time).
    hold: the key that it must hold (with or without a hold).

    A group of errors counts as the error that decides what happens to the message. Raises NotAsExpected if the block
    raises nothing, or another reason, delay or hold, and ValueError if `after` is not a duration. Lets every other
    error pass.

    >>> from flowq import RetryLater
    >>> with raises_retry(after="30s", hold="host"):
    ...     raise RetryLater("throttled", after=30, hold="host")
    """
    expected_seconds = None if after is None else seconds(after)
    raised = Raised[RetryLater]()
    try:
        yield raised
    except Exception as error:
        meant = meant_by(error)
        if not isinstance(meant, RetryLater):
            raise
        _check_reason(meant, match)
        if expected_seconds is not None and not isclose(meant.after, expected_seconds):  # 0.1 + 0.2 is not exactly 0.3
            raise NotAsExpected(f"{error_repr(meant)} waits {meant.after:g} s, not {expected_seconds:g} s") from error
        if hold not in (None, meant.hold):
            held = "holds nothing" if meant.hold is None else f"holds {meant.hold!r}"
            raise NotAsExpected(f"{error_repr(meant)} {held}, where {hold!r} was expected") from error
        raised.note(meant)
    else:
        raise NotAsExpected("nothing was raised, where RetryLater was expected")


def _check_reason(error: Reject | RetryLater, match: str) -> None:
    if not re.search(match, error.reason):
        raise NotAsExpected(f"the reason {error.reason!r} does not match {match!r}") from error
