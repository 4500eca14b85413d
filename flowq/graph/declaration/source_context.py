"""The context of a source: the cursor that the last run saved, and the one to save for the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Saved:
    """Everything yielded so far is covered if the next run starts at `cursor`."""

    cursor: Any


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something that a source has read but that cannot be a message, and why."""

    body: bytes
    error: Exception


class SourceContext(Generic[C]):
    """How far a source has read. A source gets it as a parameter annotated with `SourceContext[...]`.

    `cursor` is the last one saved, by this run or an earlier one; None at first. It may be of any type that can be a
    message: a number, a date, a model of your own.

    A cursor is stored atomically with the messages that were yielded before it was saved. So a source that is killed
    and restarted neither repeats nor skips anything. Messages yielded between two saves are held back until the second
    save; above 1,000 messages or 8 MB they enter earlier.

    `place` may be set to where the source reads, such as "orders.xml, line 12", or to a function that returns it: dead
    letters of what is yielded or rejected then name it. Otherwise they name the line of the `yield`.

    A source can be tested without flowq:

    >>> from collections.abc import Iterator
    >>> from flowq import SourceContext, source
    >>> @source
    ... def numbers(ctx: SourceContext[int], up_to: int = 5) -> Iterator[int]:
    ...     for n in range(ctx.cursor or 0, up_to):
    ...         yield n
    ...         ctx.save(n + 1)
    >>> list(numbers(SourceContext(3)))
    [3, 4]
    """

    __slots__ = ("_record", "cursor", "place", "rejected")

    def __init__(self, cursor: C | None = None, *, record: Callable[[Saved | Rejected], None] | None = None) -> None:
        self.cursor = cursor
        self.rejected: list[Rejected] = []
        self.place: str | Callable[[], str] = ""
        self._record = record

    def save(self, cursor: C) -> None:
        """Start here next time: everything yielded so far is covered. Call it after the `yield`, never before."""
        self.cursor = cursor
        if self._record is not None:
            self._record(Saved(cursor))

    def reject(self, body: bytes | str, error: Exception) -> None:
        """Make a dead letter of something that cannot be a message, and continue.

        It belongs to the stage that the source feeds, and is counted there. `flowq dlq retry` hands `body` to that
        stage. In a test without flowq, `rejected` holds it.
        """
        body = body.encode("utf-8", "surrogateescape") if isinstance(body, str) else bytes(memoryview(body))
        rejected = Rejected(body, error)
        if self._record is None:
            self.rejected.append(rejected)
        else:
            self._record(rejected)
