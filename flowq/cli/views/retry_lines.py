"""Why messages are tried again, in words: below the stages, and as news of a run. Values in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any

from rich.text import Text

from flowq.broker.inspection.retried_errors import RetriedError
from flowq.broker.records import OTHER, FailureCount, Snapshot
from flowq.cli.framework.error_screen import redacted
from flowq.cli.views.run_progress import Pacer
from flowq.delivery.failed_attempts import Attempt, Failure
from flowq.graph.compilation.plan import Plan
from flowq.printable import printable
from flowq.wording.moments import moment_of
from flowq.wording.quantities import counted
from flowq.wording.retry_words import attempt_words, retries_counted, retry_words

_COUNTS_EVERY_MS = 30_000
_SHORTEST_ERROR = 24


def error_lines(errors: Mapping[str, Sequence[RetriedError]], width: int, *, most: int) -> list[Text]:
    """Up to `most` errors of each stage: in one line each where it fits, else in two."""
    lines: list[Text] = []
    for stage, of_stage in errors.items():
        for error in of_stage[:most]:
            lines += _error_lines(stage, error, width - 1)
        if len(of_stage) > most:
            lines.append(Text(f" {stage}  and {counted(len(of_stage) - most, 'other error')}", "dim"))
    return lines


def _error_lines(stage: str, error: RetriedError, width: int) -> Iterator[Text]:
    style = "yellow" if error.delayed else "dim"
    head = f" {stage}  "
    words, counts = _error_words(error.kind, error.error), retry_words(error)
    together = Text(head + "  ".join(filter(None, (words, printable(error.place), counts))), style)
    if together.cell_len <= width:
        yield together
    else:
        cropped, place = _cropped(words, error.place, width - len(head))
        yield Text(head + "  ".join(filter(None, (cropped.plain, place))), style)
        yield Text(" " * len(head) + counts, style)


def failure_words(failure: Failure | Attempt, attempts: int, width: int) -> str:
    """What is known of one or more attempts of a message, the error cropped to fit.

    >>> failure_words(Failure(1, 1, "ValueError: bad price", "shop.py:31"), 5, 80)
    'attempt 1 of 5: ValueError: bad price  shop.py:31'
    >>> failure_words(Failure(1, 3, "ValueError: no such price: 17,50", "shop.py:31"), 5, 55)
    'attempts 1–3 of 5: ValueError: no such pri…  shop.py:31'
    """
    which = f"attempt {failure.last}" if failure.first == failure.last else f"attempts {failure.first}–{failure.last}"
    which = f"{which} of {attempts}: "
    error, place = _cropped(failure.error or "its error is not kept", failure.place, width - len(which))
    return which + "  ".join(filter(None, (error.plain, place)))


def alike_attempts(attempts: Sequence[Attempt], now: datetime) -> Iterator[tuple[Attempt, str]]:
    """Attempts in a row that failed alike, as one; and when the first and the last of them failed."""
    for _, group in groupby(attempts, lambda each: (each.error, each.place, each.at_ms is None)):
        first, *others = group
        last = others[-1] if others else first
        times = dict.fromkeys(moment_of(each.at_ms, now) for each in (first, last) if each.at_ms is not None)
        yield last._replace(first=first.first), f"{' to '.join(times)}  " if times else ""


def _cropped(error: str, place: str, width: int) -> tuple[Text, str]:
    """An error, cropped so that it fits before its place, and the place."""
    text, place = Text(printable(error)), printable(place)
    text.truncate(max(_SHORTEST_ERROR, width - (len(place) + 2 if place else 0)), overflow="ellipsis")
    return text, place


def _error_words(kind: str, error: str) -> str:
    text = printable(error) or "an error of another version"
    return f"other errors, the last: {text}" if kind == OTHER else text


# What a run says


@dataclass(frozen=True, slots=True)
class RetryNote:
    """One kind of error of a stage, for a line of a run. Of a kind that `is_new`, the next attempt is news as well."""

    stage: str
    counted: FailureCount
    attempts: int
    next_try_seconds: float
    is_new: bool = True

    def __str__(self) -> str:
        error = self.counted
        parts = [f"retry  {error.count:,}×", self.stage, _error_words(error.kind, error.error), printable(error.place)]
        if self.is_new:
            parts.append(attempt_words(error.next_attempt, self.attempts, self.next_try_seconds))
        return redacted("  ".join(filter(None, parts)))

    def as_json(self) -> dict[str, Any]:
        """The fields of a line in a JSON log."""
        error = self.counted
        return {
            "stage": self.stage,
            "error": redacted(error.error),
            "place": error.place or None,
            "retries": error.count,
            "attempt": error.next_attempt,
            "attempts": self.attempts,
            "next_try_seconds": round(self.next_try_seconds, 1),
        }


def retry_notes(plan: Plan, snapshot: Snapshot) -> Iterator[RetryNote]:
    """Every kind of error of every stage, the most frequent of a stage first."""
    for stage in plan.consumers:
        for error in snapshot.failures.get(stage.name, ()):
            seconds = max(0, error.due_ms - snapshot.now_ms) / 1000
            yield RetryNote(stage.name, error, stage.retry.attempts, seconds)


def count_lines(plan: Plan, snapshot: Snapshot, width: int, *, most: int) -> list[Text]:
    """The most frequent errors of a run, a line each, the error cropped to fit."""
    notes = sorted(retry_notes(plan, snapshot), key=lambda note: -note.counted.count)
    lines: list[Text] = []
    for note in notes[:most]:
        head, counts = f" {note.stage}  ", f"  {retries_counted(note.counted.count)}"
        words = _error_words(note.counted.kind, note.counted.error)
        error, place = _cropped(words, note.counted.place, width - len(head) - len(counts))
        lines.append(Text(head + "  ".join(filter(None, (error.plain, place))) + counts, "yellow", no_wrap=True))
    return lines


class RetryNews:
    """What a run has to say of failed attempts: each kind of error once, when it is new, then counts at intervals."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._before: dict[tuple[str, str], int] = {}
        self._told: dict[tuple[str, str], int] = {}
        self._seen: list[RetryNote] = []
        self._pace = Pacer(_COUNTS_EVERY_MS)

    def begin(self, failures: Mapping[str, Sequence[FailureCount]]) -> None:
        """What was counted before this run began: no news until there are more."""
        self._before = {(stage, each.kind): each.count for stage, counts in failures.items() for each in counts}

    def read(self, snapshot: Snapshot) -> list[RetryNote]:
        """What is new in this snapshot."""
        if not snapshot.failures:
            return []
        counts_are_due = self._pace.is_due(snapshot.now_ms)
        known = {(note.stage, note.counted.kind): note for note in retry_notes(self._plan, snapshot)}
        self._seen = [replace(note, is_new=key not in self._told) for key, note in known.items()]
        return self._tell([note for note in self._seen if counts_are_due or note.is_new])

    def rest(self) -> list[RetryNote]:
        """The counts that have grown since they were last told, at the end of the run."""
        return self._tell([replace(note, is_new=False) for note in self._seen])

    def _tell(self, notes: Sequence[RetryNote]) -> list[RetryNote]:
        news: list[RetryNote] = []
        for note in notes:
            key = note.stage, note.counted.kind
            if self._told.get(key, self._before.get(key)) != note.counted.count:
                self._told[key] = note.counted.count
                news.append(note)
        return news
