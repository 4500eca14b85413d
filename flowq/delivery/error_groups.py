"""What a group of errors means for a delivery: `asyncio.TaskGroup` raises even a single error as a group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from flowq.errors import Reject, RetryLater


def meant_by(error: BaseException) -> BaseException:
    """The one error that decides what happens to a delivery.

    A RetryLater in the group, preferably one with a hold, then the one with the longest delay; else its only error, or
    its first if all are Rejects; else the group itself.

    >>> meant_by(ExceptionGroup("", [Reject("gone"), ExceptionGroup("", [Reject("gone as well")])]))
    Reject('gone')
    >>> meant_by(ExceptionGroup("", [ConnectionError(), RetryLater(after=5), RetryLater(after=30)])).after
    30
    """
    errors = list(leaves_of(error))
    if later := [each for each in errors if isinstance(each, RetryLater)]:
        return max(later, key=lambda each: (each.hold is not None, each.after))
    if len(errors) == 1 or all(isinstance(each, Reject) for each in errors):
        return errors[0]
    return error


def members_of(error: BaseException) -> Sequence[BaseException]:
    """The direct members of a group, nested groups included; none for an error that is not a group."""
    return cast("Sequence[BaseException]", getattr(error, "exceptions", ())) if _is_group(error) else ()


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """All errors in a group and its nested groups, in order; an error that is not a group yields itself."""
    to_do = [error]
    while to_do:
        each = to_do.pop()
        if _is_group(each):
            to_do += reversed(members_of(each))
        else:
            yield each


def _is_group(error: object) -> bool:
    return isinstance(error, BaseExceptionGroup)
