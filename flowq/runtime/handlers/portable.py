"""Makes errors that can be pickled: of the same class, or of the nearest base class that can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar, cast

from flowq.delivery.dead_letter import error_line
from flowq.delivery.error_groups import members_of
from flowq.errors import Reject, RetryLater

T = TypeVar("T")


class ErrorInProcess(Exception):
    """Replaces an error whose class cannot be imported in another process."""


class Portable:
    """A pickled error. It is restored without calling its class, whose signature may differ from its `args`."""

    def __init__(self, error: BaseException) -> None:
        kind = type(error)
        while not _is_picklable(kind):
            kind = cast("type[BaseException]", kind.__base__)
        if kind in (BaseException, Exception):
            kind = ErrorInProcess
        is_same = kind is type(error)
        self.kind = kind
        self.arguments = tuple(_picklable(value) for value in error.args) if is_same else (error_line(error),)
        self.state = {name: value for name, value in vars(error).items() if _is_picklable(value)}
        if isinstance(error, Reject | RetryLater):
            self.state["reason"] = error.reason if is_same else error_line(error)
        self.members = [Portable(each) for each in members_of(error)]

    def unpacked(self) -> BaseException:
        """The error, without what could not be pickled."""
        arguments = (self.arguments[0], [each.unpacked() for each in self.members]) if self.members else self.arguments
        error = self.kind.__new__(self.kind, *arguments)
        vars(error).update(self.state)
        return error


def portable(error: BaseException) -> BaseException | Portable:
    """The error itself if pickling preserves it, otherwise a `Portable` of it."""
    try:
        copied = _copied(error)
    except Exception:  # noqa: BLE001  (the user's error class, when it is pickled)
        return Portable(error)
    same = type(copied) is type(error) and error_line(copied) == error_line(error) and _state(copied) == _state(error)
    return error if same else Portable(error)


def _state(error: BaseException) -> Mapping[str, str]:
    return {name: repr(value) for name, value in vars(error).items()}


def _picklable(value: object) -> object:
    return value if _is_picklable(value) else repr(value)


def _is_picklable(value: object) -> bool:
    try:
        _copied(value)
    except Exception:  # noqa: BLE001  (the user's class, when it is pickled)
        return False
    return True


def _copied(value: T) -> T:
    load = cast("Callable[[Any], T]", ForkingPickler.loads)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    return load(ForkingPickler.dumps(value))
