"""What a source may know of its last run, and leave for its next one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Saved:
    """Everything given so far is done with when the next run begins at `cursor`."""

    cursor: Any


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something a source has read that cannot be a message, and why."""

    body: bytes
    error: Exception


class SourceContext(Generic[C]):
    """How far a source has come. A source gets it by a parameter annotated with `SourceContext[...]`.

    `cursor` is what was saved last, by this run or an earlier one; None at the very beginning. It may be of any type
    that can be a message: a number, a date, a model of your own.

    A cursor is stored in the same atomic step as the messages that were yielded before it was saved. A source that is
    killed and started again therefore neither repeats nor skips anything. What is yielded between two saves is held
    back until the second and enters together with it; more than 1,000 messages, or 8 MB, enter before.

    `place` may be set to where the source reads, such as "orders.xml, line 12", or to a function that tells it: dead
    letters of what is yielded or rejected then name it. Without it they name the line of the `yield`.

    A source is tested without flowq:

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
        """Begin here next time: everything yielded so far is done with. Call it after the `yield`, never before."""
        self.cursor = cursor
        if self._record is not None:
            self._record(Saved(cursor))

    def reject(self, body: bytes | str, error: Exception) -> None:
        """Make a dead letter of something that cannot be a message, and go on.

        It lies with the stage that takes what the source gives, and counts there. `flowq dlq retry` hands `body` to
        that stage. In a test without flowq, `rejected` holds it.
        """
        body = body.encode("utf-8", "surrogateescape") if isinstance(body, str) else bytes(memoryview(body))
        rejected = Rejected(body, error)
        if self._record is None:
            self.rejected.append(rejected)
        else:
            self._record(rejected)
