"""Retries in words: how many there were, and when the next one is."""

from __future__ import annotations

from collections.abc import Iterator

from flowq.broker.inspection.retried_errors import RetriedError
from flowq.durations import duration_text


def retry_words(error: RetriedError) -> str:
    """How often an error was followed by another attempt, and when the next one is.

    >>> retry_words(RetriedError("HTTP", "503", "", 12, delayed=3, attempt=2, attempts=5, next_try_seconds=8.2))
    '12 retries, 3 delayed, attempt 2 of 5 in 8.2s'
    """
    return ", ".join(_parts(error))


def _parts(error: RetriedError) -> Iterator[str]:
    if error.retries:
        yield retries_counted(error.retries)
    if error.delayed:
        yield f"{error.delayed:,} delayed"
        yield attempt_words(error.attempt, error.attempts, error.next_try_seconds)


def retries_counted(n: int) -> str:
    """
    >>> retries_counted(1), retries_counted(1200)
    ('1 retry', '1,200 retries')
    """
    return f"{n:,} {'retry' if n == 1 else 'retries'}"


def attempt_words(attempt: int | None, attempts: int | None, seconds: float | None) -> str:
    """Which attempt is next, and when.

    >>> attempt_words(2, 5, 8.2), attempt_words(2, 5, 0), attempt_words(2, 5, None)
    ('attempt 2 of 5 in 8.2s', 'attempt 2 of 5 now', 'attempt 2 of 5 when its turn comes')
    """
    when = "when its turn comes" if seconds is None else f"in {duration_text(seconds)}" if seconds > 0 else "now"
    return f"attempt {attempt} of {attempts} {when}"
